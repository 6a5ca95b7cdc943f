package benchprofiles

import "embed"

// Files holds NAME.profile for every profile.
//
//go:embed *.profile
var Files embed.FS
