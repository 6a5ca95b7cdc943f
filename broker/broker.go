package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cluster"
	"github.com/weirmq/weir/engine"
	"github.com/weirmq/weir/internal/clock"
	"github.com/weirmq/weir/internal/timewheel"
	"github.com/weirmq/weir/netpoll"
	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/vfs"
)

// Options configures a broker. Config is required; everything else has a default.
type Options struct {
	// Config is the parsed properties file and what overrides it.
	Config *Config
	// Logger takes everything the broker has to say. Default: slog.Default().
	Logger *slog.Logger
	// Clock is the time of every part. Default: clock.Real().
	Clock clock.Clock
	// FS is where the log directories are. Default: vfs.OS().
	FS vfs.FS
	// Seed drives jitter in the engine. Default: 0, the operating system's randomness.
	Seed uint64
	// Version is the binary's version, for logs.
	Version string
	// MetricsAddr is where /metrics, /healthz and /readyz are served, HOST:PORT. Default: "", not at all.
	MetricsAddr string
}

// EnsureDefaults fills in what is unset.
func (o *Options) EnsureDefaults() {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.FS == nil {
		o.FS = vfs.OS()
	}
}

// Validate reports what cannot be.
func (o *Options) Validate() error {
	if o.Config == nil {
		return fmt.Errorf("%w: Options.Config is nil", ErrConfig)
	}
	return nil
}

// limits are numbers of the configuration that handlers read for every request.
type limits struct {
	fetchBytesMax int64 // fetch.max.bytes
}

// Broker is a running broker. Handlers are its methods; what they need hangs here. Fields are set before the listener
// starts and never change after that.
type Broker struct {
	opts      Options
	config    *Config
	logger    *slog.Logger
	clock     clock.Clock
	fs        vfs.FS
	nodeID    int32
	limits    limits
	minInsync atomic.Pointer[minInsync]

	createdConfigs createdConfigs

	store *engine.Store // partition logs
	node  *cluster.Node // metadata: node.Image() is the image in force

	server      *netpoll.Server
	advertised  *hostPort // nil: the address of the connection
	metricsAddr string
	dispatcher  *dispatcher
	workers     *workers
	wheel       *timewheel.Wheel
	wakes       wakes
	sessions    *fetchSessions
	producerIDs producerIDs
	apiKeys     []kmsg.ApiVersionsResponseApiKey
	stopping    atomic.Bool
	ctx         context.Context // of the requests on workers; ends when the broker has stopped serving

	throttled     throttleCounters
	told          toldErrors
	frames        framePool
	produceOps    sync.Pool // of *produceOp
	fetchRequests sync.Pool // of *protocol.FetchRequest
	fetchReplies  sync.Pool // of *fetchReply

	// undo holds what stops each part that was started, in order of starting.
	undo []func(context.Context) error
}

// Start brings up a broker: the logs, the metadata, then everything that serves, the listener last. When it returns,
// clients can connect. An error leaves nothing running; a bad value of the configuration wraps ErrConfig.
func Start(o Options) (*Broker, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{
		opts: o, config: o.Config, logger: o.Logger, clock: o.Clock, fs: o.FS,
		nodeID: int32(o.Config.Int("node.id")),
	}
	for _, step := range []func() error{
		b.readLimits,
		b.openStore,
		b.startNode,
		b.startTopics,
		b.startDelayed,
		b.startWorkers,
		b.startMetricsServer,
		b.startListener,
	} {
		if err := step(); err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
			defer cancel()
			return nil, errors.Join(err, b.unwind(ctx))
		}
	}
	b.logger.Info("broker started", slog.String("version", o.Version), slog.String("address", b.Addr().String()),
		slog.Int("node_id", int(b.nodeID)), slog.String("cluster_id", b.node.Image().ClusterID()),
		slog.Int("topics", b.node.Image().TopicCount()), slog.Int("partitions", b.node.Image().PartitionCount()))
	return b, nil
}

// undoTimeout bounds the stopping of what was started before a step of Start failed.
const undoTimeout = time.Minute

// Stop ends the broker in the reverse order of Start: it takes no more requests, answers those it has, flushes the logs and
// marks the directories as cleanly shut down. When ctx ends first, the rest is left as after a crash, which loses nothing that
// was acknowledged, and ctx's error is returned.
func (b *Broker) Stop(ctx context.Context) error {
	if b.stopping.Swap(true) {
		return nil
	}
	return b.unwind(ctx)
}

// unwind stops what was started, last first.
func (b *Broker) unwind(ctx context.Context) error {
	var errs []error
	for _, stop := range slices.Backward(b.undo) {
		errs = append(errs, stop(ctx))
	}
	b.undo = nil
	return errors.Join(errs...)
}

// onStop notes what stops the part that was just started.
func (b *Broker) onStop(stop func(context.Context) error) { b.undo = append(b.undo, stop) }

// Addr is the address that the broker listens on.
func (b *Broker) Addr() netip.AddrPort { return b.server.Addr() }

// MetricsAddr is the address at which metrics are served, HOST:PORT, or "".
func (b *Broker) MetricsAddr() string { return b.metricsAddr }

// ClusterID is the id of the cluster that the data directories belong to.
func (b *Broker) ClusterID() string { return b.node.Image().ClusterID() }

// FsyncPolicy is the class of durability of a topic that says nothing of its own: commit, interval or never.
func (b *Broker) FsyncPolicy() string { return b.config.LogConfig(nil).Fsync.String() }

// fetchBytesMost bounds fetch.max.bytes: a response with its first batch and its headers stays below the 2 GiB of a frame.
const fetchBytesMost = 1 << 30

// readLimits takes from the configuration what is read for every request, and checks the listeners before anything is opened.
func (b *Broker) readLimits() (err error) {
	b.limits.fetchBytesMax = min(b.config.Int("fetch.max.bytes"), fetchBytesMost)
	if _, err = listenAddress(b.config); err != nil {
		return err
	}
	b.advertised, err = advertisedAddress(b.config)
	return err
}

// openStore opens the log directories and recovers what an unclean stop left.
func (b *Broker) openStore() (err error) {
	b.store, err = engine.OpenStore(engine.StoreOptions{
		FS: b.fs, Clock: b.clock, Logger: b.logger, Seed: b.opts.Seed,
		Dirs:                    SplitList(b.config.String("log.dirs")),
		NodeID:                  b.nodeID,
		OpenFilesMax:            openFilesMax(b.config.Int("log.open.files.max"), openFilesLimit()),
		RecoveryThreads:         int(b.config.Int("num.recovery.threads.per.data.dir")),
		SyncParallel:            int(b.config.Int("fsync.parallel")),
		CheckpointInterval:      b.config.Duration("log.flush.offset.checkpoint.interval.ms"),
		RetentionInterval:       b.config.Duration("log.retention.check.interval.ms"),
		CleanerBackoff:          cleanerBackoff(b.config),
		CleanerDedupeBytes:      b.config.Int("log.cleaner.dedupe.buffer.size"),
		CleanerIOBytesPerSecond: cleanerRate(b.config.Float("log.cleaner.io.max.bytes.per.second")),
		DiskLimits:              b.config.diskLimits,
		ProducerExpirationMs:    b.config.Int("producer.id.expiration.ms"),
		Config: func(topic string) engine.LogConfig {
			if topic == cluster.LogTopic {
				return cluster.LogConfig()
			}
			return b.config.LogConfig(nil) // until the metadata says more
		},
		OnWoken: b.wakes.drainUnlessTurn,
		OnOffline: func(dir string, err error) {
			b.logger.Error("log directory is offline: its partitions take no more records, reads go on",
				slog.String("dir", dir), slog.Any("error", err))
		},
	})
	if err != nil {
		return withNext(fmt.Errorf("opening the log directories: %w", err))
	}
	b.onStop(b.store.Close)
	return nil
}

// startNode brings up the metadata and puts its dynamic broker configuration in force.
func (b *Broker) startNode() (err error) {
	b.node, err = cluster.Start(cluster.Options{
		NodeID: b.nodeID, Store: b.store, Dir: SplitList(b.config.String("log.dirs"))[0],
		FS: b.fs, Clock: b.clock, Logger: b.logger,
		CheckConfigs:      b.config.checkConfigs,
		ListConfig:        b.config.listConfig,
		PartitionsDefault: int32(b.config.Int("num.partitions")),
	})
	if err != nil {
		return withNext(fmt.Errorf("starting the metadata node: %w", err))
	}
	b.onStop(func(context.Context) error { b.node.Stop(); return nil })
	b.config.SetDynamic(dynamicBrokerValues(b.node.Image(), b.nodeID))
	b.producerIDs.allocate = b.node.AllocateProducerIDs
	return nil
}

// startDelayed makes what delayed requests need.
func (b *Broker) startDelayed() error {
	b.wheel = timewheel.New(b.clock, time.Millisecond)
	b.onStop(func(context.Context) error { b.wheel.Close(); return nil })
	b.sessions = newFetchSessions(b.clock, int(b.config.Int("max.incremental.fetch.session.cache.slots")))
	return nil
}

// backlogBytesMax bounds the requests that wait for a worker, in bytes: some hundred of the largest admin requests, or one
// of the largest frames.
const backlogBytesMax = 128 << 20

// startWorkers starts the pool for requests that may block.
func (b *Broker) startWorkers() error {
	b.workers = newWorkers(int(b.config.Int("num.io.threads")), backlogBytesMax)
	b.workers.start()
	var cancel context.CancelFunc
	b.ctx, cancel = context.WithCancel(context.Background())
	b.onStop(func(context.Context) error {
		cancel()
		b.workers.stop()
		return nil
	})
	return nil
}

// startMetricsServer serves the metrics, if an address was given.
func (b *Broker) startMetricsServer() error {
	if b.opts.MetricsAddr == "" {
		return nil
	}
	addr, stop, err := b.startMetrics(b.opts.MetricsAddr)
	if err != nil {
		return err
	}
	b.metricsAddr = addr
	b.onStop(stop)
	return nil
}

// startListener begins to serve clients.
func (b *Broker) startListener() error {
	listen, err := listenAddress(b.config)
	if err != nil {
		return err
	}
	options := netpoll.Options{
		Listen: listen, Impl: netpoll.Impl(b.config.String("netpoll")), Logger: b.logger, Clock: b.clock,
		Loops:               int(b.config.Int("num.network.threads")),
		FrameBytesMax:       int(b.config.Int("socket.request.max.bytes")),
		BufferBudget:        bufferBudget(b.config.Int("queued.max.request.bytes")),
		MaxConnections:      int(min(b.config.Int("max.connections"), connectionsUnlimited)),
		MaxConnectionsPerIP: int(min(b.config.Int("max.connections.per.ip"), connectionsUnlimited)),
		IdleTimeout:         b.config.timeout("connections.max.idle.ms"),
		FrameTimeout:        b.config.timeout("socket.request.timeout.ms"),
	}
	options.EnsureDefaults()
	b.config.inForce.Store(&map[string]string{"num.network.threads": strconv.Itoa(options.Loops)})
	b.dispatcher = newDispatcher(b, options.Loops)
	options.Handler = b.dispatcher
	b.apiKeys = b.dispatcher.apiKeys()
	if b.server, err = netpoll.Start(options); err != nil {
		return fmt.Errorf("listening on %s: %w", listen, err)
	}
	b.onStop(func(ctx context.Context) error {
		b.stopping.Store(true) // from here on no request waits
		b.dispatcher.finishParked()
		return b.server.Stop(ctx)
	})
	return nil
}

// connectionsUnlimited is what netpoll takes at most; Kafka's default stands for no limit.
const connectionsUnlimited = 1 << 30

// bufferBudget is queued.max.request.bytes, or for -1 a quarter of the memory that the process may use: of GOMEMLIMIT where
// one is set, else of netpoll's default.
func bufferBudget(configured int64) int64 {
	const unset, least = 1 << 30, 128 << 20
	if configured > 0 {
		return configured
	}
	if limit := debug.SetMemoryLimit(-1); limit < 1<<60 {
		return max(limit/4, least)
	}
	return unset
}

// apiKeys lists the dispatch table for ApiVersions, by key.
func (d *dispatcher) apiKeys() []kmsg.ApiVersionsResponseApiKey {
	keys := make([]kmsg.ApiVersionsResponseApiKey, 0, len(d.table))
	for _, api := range protocol.Supported() {
		if _, served := d.table[api.Key]; !served {
			continue
		}
		row := kmsg.NewApiVersionsResponseApiKey()
		row.ApiKey, row.MinVersion, row.MaxVersion = api.Key, api.Min, api.Max
		keys = append(keys, row)
	}
	return keys
}
