//! The arguments of `rprof mcp`.

use clap::Args;

use super::DebugArgs;

/// Shown below `rprof mcp --help`.
pub const MCP_HELP: &str = "\
Speaks the Model Context Protocol on standard input and output, one JSON message per line. It
changes nothing, and stops no thread unless a call has `may_stop_threads: true`. The tools and
their arguments: `rprof help mcp.md`.

Examples:
  claude mcp add rprof -- rprof mcp
  {\"mcpServers\": {\"rprof\": {\"command\": \"rprof\", \"args\": [\"mcp\"]}}}";

/// The arguments of `rprof mcp`.
#[derive(Debug, Args)]
pub struct McpArgs {
    /// Where debug files are looked up.
    #[command(flatten)]
    pub debug: DebugArgs,
}
