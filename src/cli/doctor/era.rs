//! Which protocol era an MCP server speaks, and so which connectors are bridged to it.

use std::sync::Arc;

use crate::mcp::Binding;
use crate::mcp::probe::{self, Finding};

use super::report::Check;

const ID: &str = "mcp_protocol_era";
const WHY: &str = "Connectors of either era may use the tunnel. What is lost when they are bridged: elicitation, sampling \
and roots, subscriptions and change notifications, and tasks.";

/// Tests both eras of the server behind `binding`, if it can be asked without starting anything.
pub(super) fn check(binding: &Arc<Binding>) -> Check {
    let Binding::Http(binding) = &**binding else {
        return Check::skip(ID, "determined on first use; the command is not started by doctor").why(WHY);
    };
    let bridged = match binding.protocol().bridge {
        true => "are bridged",
        false => "are NOT bridged (mcp.protocol_bridge=off)",
    };
    let check = match probe::examine(binding) {
        [Finding::AuthRequired, _] | [_, Finding::AuthRequired] => {
            Check::skip(ID, "requires authorization; era not determined")
        }
        [Finding::Speaks(legacy), Finding::Speaks(modern)] => {
            Check::pass(ID, format!("dual ({legacy} and {modern})"))
        }
        [Finding::Speaks(legacy), _] => {
            Check::pass(ID, format!("legacy ({legacy}); modern connectors {bridged}"))
        }
        [_, Finding::Speaks(modern)] => {
            Check::pass(ID, format!("modern ({modern}); legacy connectors {bridged}"))
        }
        [Finding::Undecided(kind), _] | [_, Finding::Undecided(kind)] => {
            Check::skip(ID, format!("era not determined: {kind}"))
        }
        [Finding::Refuses(legacy), Finding::Refuses(modern)] => {
            Check::fail(ID, "server accepted neither initialize nor server/discover")
                .with_evidence([legacy, modern])
                .with_next([
                    "Check the URL path.".to_owned(),
                    "Check that it is an MCP endpoint and not the older two-endpoint SSE transport."
                        .to_owned(),
                ])
        }
    };
    check.why(WHY).always_explained()
}

/// The server was not reached at all.
pub(super) fn unreachable() -> Check {
    Check::skip(ID, "era not determined: unreachable").why(WHY)
}
