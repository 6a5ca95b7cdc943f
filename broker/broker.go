package broker

import (
	"log/slog"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/vfs"
)

// Options configures a broker. Config is required; everything else has a default.
type Options struct {
	Config  *Config      // parsed server.properties and overrides
	Logger  *slog.Logger // default: slog.Default()
	Clock   clock.Clock  // default: clock.Real()
	FS      vfs.FS       // default: vfs.OS()
	Version string       // the binary's version, shown in logs and metrics
}

// Broker is a running broker. Handlers are its methods; what they need hangs here.
type Broker struct {
	config *Config
	logger *slog.Logger
	clock  clock.Clock
	fs     vfs.FS

	store *engine.Store // partition logs
	node  *cluster.Node // metadata: node.Image() is the image in force

	buffers bufferPool
}
