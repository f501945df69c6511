//! The child's stderr, handed on to ours.
//!
//! Invariant: it is always read, so a talkative child never blocks; text passes unchanged, except for
//! what the redactor recognises as one of our own secrets.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::pipe::{Ready, StopSignal, is_writable};

/// Replaces secrets in text.
pub type Redactor = Arc<dyn for<'a> Fn(&'a str) -> Cow<'a, str> + Send + Sync>;

/// A longer line is handed on in pieces.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Text without a line feed is handed on when nothing follows for so long.
const QUIET: Duration = Duration::from_millis(500);
/// A sink that takes nothing for so long loses the text: the child must not wait for it.
const SINK_PATIENCE: Duration = Duration::from_secs(5);
/// A pipe that is ready takes so much without blocking (`PIPE_BUF` on Linux).
const CHUNK_BYTES: usize = 4096;
/// What is still read once we have been told to stop.
const LAST_BYTES: usize = 256 * 1024;

/// Where the text goes.
pub(super) struct Sink {
    /// Our stderr, or what stands for it.
    pub(super) file: OwnedFd,
    /// Applied to whole lines, where they are not too long.
    pub(super) redactor: Option<Redactor>,
}

/// Hands everything on until the non-blocking `pipe` ends or `stop` is raised.
pub(super) fn forward(pipe: &OwnedFd, sink: &Sink, stop: &StopSignal) {
    let mut buffer = vec![0; MAX_LINE_BYTES];
    let mut filled = 0;
    let mut left = LAST_BYTES;
    loop {
        let stopping = match stop.wait_readable(pipe.as_fd(), (filled > 0).then_some(QUIET)) {
            Ok(Ready::Yes) => false,
            Ok(Ready::TimedOut) => {
                sink.write(&buffer[..filled], stop);
                filled = 0;
                continue;
            }
            Ok(Ready::Stopped) => true,
            Err(_) => return,
        };
        match rustix::io::read(pipe, &mut buffer[filled..]) {
            Ok(count) if count > 0 => {
                filled += count;
                left = if stopping { left.saturating_sub(count) } else { left };
                let whole = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                let whole = if whole == 0 && filled == buffer.len() { filled } else { whole };
                sink.write(&buffer[..whole], stop);
                buffer.copy_within(whole..filled, 0);
                filled -= whole;
                if left > 0 {
                    continue;
                }
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) if !stopping => continue,
            _ => {}
        }
        sink.write(&buffer[..filled], stop);
        return;
    }
}

impl Sink {
    fn write(&self, text: &[u8], stop: &StopSignal) {
        let text = match &self.redactor {
            Some(redact) if !text.is_empty() => match String::from_utf8_lossy(text) {
                Cow::Borrowed(text) => Cow::Owned(redact(text).into_owned().into_bytes()),
                Cow::Owned(text) => Cow::Owned(redact(&text).into_owned().into_bytes()),
            },
            _ => Cow::Borrowed(text),
        };
        let give_up = Instant::now() + SINK_PATIENCE;
        let mut rest = &text[..];
        while !rest.is_empty() {
            let left = give_up.saturating_duration_since(Instant::now());
            match stop.wait_writable(self.file.as_fd(), Some(left)) {
                Ok(Ready::Yes) => {}
                Ok(Ready::Stopped) if is_writable(self.file.as_fd()) => {}
                Ok(Ready::Stopped | Ready::TimedOut) | Err(_) => return,
            }
            match rustix::io::write(&self.file, &rest[..rest.len().min(CHUNK_BYTES)]) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter, Read, Write, pipe};

    fn started(
        redactor: Option<Redactor>,
    ) -> (PipeWriter, PipeReader, Arc<StopSignal>, std::thread::JoinHandle<()>) {
        let (source, child) = pipe().unwrap();
        super::super::pipe::set_nonblocking(&source).unwrap();
        let (ours, file) = pipe().unwrap();
        let stop = Arc::new(StopSignal::new().unwrap());
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || forward(&source.into(), &Sink { file: file.into(), redactor }, &stop))
        };
        (child, ours, stop, thread)
    }

    #[test]
    fn text_passes_unchanged_and_a_lone_prompt_without_line_feed_too() {
        let (mut child, mut ours, _stop, thread) = started(None);
        child.write_all(b"one\n\xfftwo\n").unwrap();
        let mut seen = [0; 9];
        ours.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"one\n\xfftwo\n");
        child.write_all(b"password: ").unwrap();
        let mut seen = [0; 10];
        ours.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"password: ");
        let writer = std::thread::spawn(move || child.write_all(&[b'x'; 200_000]).unwrap());
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), 200_000);
        writer.join().unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn secrets_are_redacted() {
        let (mut child, mut ours, _stop, thread) =
            started(Some(Arc::new(|text: &str| Cow::Owned(text.replace("hunter2", "[redacted]")))));
        child.write_all(b"key=hunter").unwrap();
        child.write_all(b"2\n").unwrap();
        drop(child);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "key=[redacted]\n");
        thread.join().unwrap();
    }

    #[test]
    fn a_sink_that_nobody_reads_blocks_neither_the_child_nor_the_end() {
        let (mut child, _unread, stop, thread) = started(None);
        for _ in 0..40 {
            child.write_all(&[b'x'; 4096]).unwrap();
        }
        stop.raise();
        thread.join().unwrap();
    }
}
