package peers

import "embed"

// Files holds one folder per peer.
//
//go:embed kafka
var Files embed.FS
