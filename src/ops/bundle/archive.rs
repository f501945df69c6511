//! Files in one archive: a gzip-compressed tar (POSIX.1-1988 `ustar`) or a zip. Pure: bytes in, bytes out.
//!
//! Invariant: every member is a regular file that only its owner may read.

use std::io::{self, Write};

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use time::OffsetDateTime;

/// Tar works in blocks of so many bytes.
const BLOCK: usize = 512;
const MODE: u32 = 0o600;

/// One file.
pub(super) struct Member {
    /// Relative path of at most 100 bytes.
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// How members are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.tar.gz`
    TarGz,
    /// `.zip`
    Zip,
}

impl Format {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::TarGz => "application/gzip",
            Format::Zip => "application/zip",
        }
    }

    /// The end of a file's name, without a leading dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::TarGz => "tar.gz",
            Format::Zip => "zip",
        }
    }
}

/// The archive of `members`, all modified at `at`.
pub(super) fn pack(format: Format, members: &[Member], at: OffsetDateTime) -> io::Result<Vec<u8>> {
    match format {
        Format::TarGz => tar_gz(members, at),
        Format::Zip => zip(members, at),
    }
}

fn tar_gz(members: &[Member], at: OffsetDateTime) -> io::Result<Vec<u8>> {
    let mut archive = GzEncoder::new(Vec::new(), Compression::default());
    for Member { name, content } in members {
        archive.write_all(&tar_head(name, content.len(), at))?;
        archive.write_all(content)?;
        archive.write_all(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])?;
    }
    archive.write_all(&[0; 2 * BLOCK])?;
    archive.finish()
}

fn tar_head(name: &str, size: usize, at: OffsetDateTime) -> [u8; BLOCK] {
    let mut head = [0; BLOCK];
    let mut field = |offset: usize, text: &[u8]| head[offset..offset + text.len()].copy_from_slice(text);
    field(0, &name.as_bytes()[..name.len().min(100)]);
    field(100, format!("{MODE:07o}\0{:07o}\0{:07o}\0", 0, 0).as_bytes());
    field(124, format!("{size:011o}\0{:011o}\0", at.unix_timestamp().max(0)).as_bytes());
    // The checksum counts its own field as blanks.
    field(148, b"        0");
    field(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

fn zip(members: &[Member], at: OffsetDateTime) -> io::Result<Vec<u8>> {
    // MS-DOS: two seconds are the smallest unit, 1980 the first year.
    let time = u16::from(at.hour()) << 11 | u16::from(at.minute()) << 5 | u16::from(at.second()) >> 1;
    let year = u16::try_from(at.year() - 1980).unwrap_or(0);
    let date = year << 9 | u16::from(u8::from(at.month())) << 5 | u16::from(at.day());
    let mut archive = Vec::new();
    let mut directory = Vec::new();
    for Member { name, content } in members {
        let start = size_field(archive.len())?;
        let mut sum = Crc::new();
        sum.update(content);
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(content)?;
        let packed = packed.finish()?;
        // What both heads of a member share: version 2.0, no flags, deflated.
        let mut common = vec![20, 0, 0, 0, 8, 0];
        for half in [time, date] {
            common.extend(half.to_le_bytes());
        }
        for word in [sum.sum(), size_field(packed.len())?, size_field(content.len())?] {
            common.extend(word.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);

        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(packed);

        // Made by Unix (3); behind the common part: no comment, first disk, binary, mode, place.
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend(((0o100_000 | MODE) << 16).to_le_bytes());
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size) = (size_field(archive.len())?, size_field(directory.len())?);
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    let count = (members.len() as u16).to_le_bytes();
    archive.extend(count);
    archive.extend(count);
    archive.extend(size.to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0; 2]);
    Ok(archive)
}

fn size_field(size: usize) -> io::Result<u32> {
    u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::{DeflateDecoder, GzDecoder};
    use std::io::Read;

    fn members() -> Vec<Member> {
        let of = |name: &str, content: Vec<u8>| Member { name: name.to_owned(), content };
        vec![
            of("a.txt", b"hello\n".to_vec()),
            of("dir/empty", Vec::new()),
            of("block", vec![b'x'; BLOCK]),
            of("big", (0..100_000u32).map(|n| (n % 251) as u8).collect()),
        ]
    }

    fn at() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_767_323_045).unwrap()
    }

    #[test]
    fn a_tar_holds_its_members_in_order() {
        let mut tar = Vec::new();
        GzDecoder::new(&pack(Format::TarGz, &members(), at()).unwrap()[..]).read_to_end(&mut tar).unwrap();
        let mut rest = &tar[..];
        for Member { name, content } in members() {
            let (head, tail) = rest.split_at(BLOCK);
            let text = |from: usize, to: usize| {
                std::str::from_utf8(&head[from..to]).unwrap().trim_end_matches(['\0', ' '])
            };
            assert_eq!(text(0, 100), name);
            assert_eq!(text(100, 108), "0000600");
            assert_eq!(usize::from_str_radix(text(124, 136), 8).unwrap(), content.len());
            assert_eq!(i64::from_str_radix(text(136, 148), 8).unwrap(), 1_767_323_045);
            let blank = head
                .iter()
                .enumerate()
                .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
            assert_eq!(u32::from_str_radix(text(148, 156), 8).unwrap(), blank.sum::<u32>());
            assert_eq!((head[156], &head[257..265]), (b'0', &b"ustar\x0000"[..]));
            assert!(tail.starts_with(&content), "{name}");
            rest = &tail[content.len().next_multiple_of(BLOCK)..];
        }
        assert_eq!(rest, [0; 2 * BLOCK]);
    }

    #[test]
    fn a_zip_holds_its_members_in_order() {
        let zip = pack(Format::Zip, &members(), at()).unwrap();
        let number = |at: usize, bytes: usize| {
            zip[at..at + bytes].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let end = zip.len() - 22;
        assert_eq!(&zip[end..end + 4], b"PK\x05\x06");
        assert_eq!((number(end + 8, 2), number(end + 10, 2)), (4, 4));
        let mut entry = number(end + 16, 4);
        assert_eq!(entry + number(end + 12, 4), end);
        for Member { name, content } in members() {
            assert_eq!(&zip[entry..entry + 4], b"PK\x01\x02");
            assert_eq!(&zip[entry + 46..entry + 46 + name.len()], name.as_bytes());
            assert_eq!(number(entry + 38, 4) >> 16, 0o100_600);
            assert_eq!(number(entry + 24, 4), content.len());
            let local = number(entry + 42, 4);
            assert_eq!(&zip[local..local + 4], b"PK\x03\x04");
            assert_eq!(&zip[local + 30..local + 30 + name.len()], name.as_bytes());
            let start = local + 30 + name.len();
            let packed = &zip[start..start + number(entry + 20, 4)];
            let mut unpacked = Vec::new();
            DeflateDecoder::new(packed).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, content, "{name}");
            let mut sum = Crc::new();
            sum.update(&content);
            assert_eq!(number(entry + 16, 4), sum.sum() as usize);
            entry += 46 + name.len();
        }
        assert_eq!(entry, end);
    }
}
