package broker

// brokerKeys is the table of broker configuration keys: Kafka's names and defaults where Kafka has the key.
func brokerKeys() []Key {
	keys := append(listenerKeys(), storageKeys()...)
	keys = append(keys, diskKeys()...)
	return append(keys, logDefaultKeys()...)
}

// listenerKeys are the keys of the node, its listener and the limits on connections and requests.
func listenerKeys() []Key {
	return []Key{
		{Name: "node.id", Type: TypeInt, Default: "1", Min: 0, Max: anyNumber, Doc: "This node's number in the cluster."},
		{Name: "listeners", Type: TypeString, Default: "PLAINTEXT://127.0.0.1:9092",
			Doc: "Address to listen on, PLAINTEXT://HOST:PORT; port 0 lets the kernel choose."},
		{Name: "advertised.listeners", Type: TypeString, Default: "",
			Doc: "Address that clients are told, PLAINTEXT://HOST:PORT; empty: the address listened on."},
		{Name: "listener.security.protocol.map", Type: TypeList, Default: "",
			Doc: "Security protocols of listeners with names of their own, NAME:PROTOCOL; PLAINTEXT is the only one served."},
		{Name: "controller.listener.names", Type: TypeList, Default: "",
			Doc: "Names of the controllers' listeners in a properties file of Kafka's; entries of listeners and advertised.listeners for them are left out."},
		{Name: "num.network.threads", Type: TypeInt, Default: "0", Min: 0, Max: 1024,
			Doc: "Event loops; 0 is one for each core, at most 64 (Kafka's default of 3 would cost CPU here). Described as the number in force."},
		{Name: "num.io.threads", Type: TypeInt, Default: "8", Min: 1, Max: 1024,
			Doc: "Workers for requests that may block on the disk."},
		{Name: "netpoll", Type: TypeString, Default: "epoll", Enum: []string{"epoll", "go"},
			Doc: "Network layer: the broker's own event loops, or the Go runtime's."},
		{Name: "socket.request.max.bytes", Type: TypeInt, Default: "104857600", Min: 1024, Max: anyNumber,
			Doc: "Largest request frame taken, in bytes."},
		{Name: "socket.request.timeout.ms", Type: TypeLong, Default: "30000", Min: -1, Max: anyNumber,
			Doc: "Time from the first byte of a request to its last after which the connection is closed, in milliseconds. Pauses of ours are not counted, " +
				"other than for want of memory (queued.max.request.bytes); -1 is never."},
		{Name: "queued.max.request.bytes", Type: TypeLong, Default: "-1", Min: -1, Max: anyNumber,
			Doc: "Bytes of requests held in memory before reading pauses, except for one connection at a time; requests of over 1 MiB have three quarters of them. " +
				"-1 is a quarter of GOMEMLIMIT, or 1 GiB without one."},
		{Name: "max.connections", Type: TypeInt, Default: "2147483647", Min: 1, Max: anyNumber, Doc: "Most connections at a time."},
		{Name: "max.connections.per.ip", Type: TypeInt, Default: "2147483647", Min: 1, Max: anyNumber,
			Doc: "Most connections at a time from one address."},
		{Name: "connections.max.idle.ms", Type: TypeLong, Default: "600000", Min: -1, Max: anyNumber,
			Doc: "Idle time after which a connection is closed, in milliseconds; -1 is never."},
		{Name: "fetch.max.bytes", Type: TypeInt, Default: "57671680", Min: 1024, Max: anyNumber,
			Doc: "Most bytes of records in one fetch response."},
		{Name: "max.incremental.fetch.session.cache.slots", Type: TypeInt, Default: "1000", Min: 0, Max: 1000000,
			Doc: "Fetch sessions (KIP-227) kept at a time."},
		{Name: "auto.create.topics.enable", Type: TypeBoolean, Default: "true",
			Doc: "Whether a topic that a client asks for by name is created."},
		{Name: "delete.topic.enable", Type: TypeBoolean, Default: "true", Doc: "Whether topics may be deleted."},
		{Name: "num.partitions", Type: TypeInt, Default: "1", Min: 1, Max: 1000000, Doc: "Partitions of a topic created without a number."},
		{Name: "default.replication.factor", Type: TypeInt, Default: "1", Min: 1, Max: 1,
			Doc: "Replicas of a topic created without a number; a single node has one."},
	}
}

// storageKeys are the keys of the log directories and of the background work in them.
func storageKeys() []Key {
	return []Key{
		{Name: "log.dirs", Type: TypeList, Default: "weir-data", Doc: "Directories that hold the logs, separated by commas."},
		{Name: "log.open.files.max", Type: TypeInt, Default: "0", Min: 0, Max: anyNumber,
			Doc: "Log files held open at a time; 0 is half of the process's limit, at most 50000."},
		{Name: "num.recovery.threads.per.data.dir", Type: TypeInt, Default: "2", Min: 1, Max: 1024,
			Doc: "Partitions of one directory recovered at a time after an unclean stop."},
		{Name: "log.retention.check.interval.ms", Type: TypeLong, Default: "300000", Min: 1, Max: anyNumber,
			Doc: "How often retention is applied, in milliseconds."},
		{Name: "log.flush.offset.checkpoint.interval.ms", Type: TypeInt, Default: "1000", Min: 1, Max: anyNumber,
			Doc: "How often recovery points are written, in milliseconds."},
		{Name: "log.cleaner.enable", Type: TypeBoolean, Default: "true", Doc: "Whether compacted topics are cleaned."},
		{Name: "log.cleaner.backoff.ms", Type: TypeLong, Default: "15000", Min: 0, Max: anyNumber,
			Doc: "How long the cleaner sleeps when there is nothing to clean, in milliseconds."},
		{Name: "log.cleaner.dedupe.buffer.size", Type: TypeLong, Default: "134217728", Min: 1048576, Max: anyNumber,
			Doc: "Memory bound of the cleaner's offset map, in bytes."},
		{Name: "log.cleaner.io.max.bytes.per.second", Type: TypeDouble, Default: "1.7976931348623157E308", Min: 1, Max: anyNumber,
			Doc: "Most bytes per second the cleaner reads and writes."},
		{Name: "producer.id.expiration.ms", Type: TypeInt, Default: "86400000", Min: 1, Max: anyNumber,
			Doc: "How long a producer's sequence state is kept after its last write, in milliseconds."},
		{Name: "fsync.parallel", Type: TypeInt, Default: "4", Min: 1, Max: 64,
			Doc: "fdatasync calls at a time on one log directory."},
	}
}

// diskKeys say what is done when the file system of a log directory fills up; Kafka has no such keys.
func diskKeys() []Key {
	return []Key{
		{Name: "log.disk.used.max.ratio", Type: TypeDouble, Default: "1", Min: 0.01, Max: 1, Dynamic: true,
			Doc: "Share of a disk in use above which the oldest segments of topics with cleanup.policy=delete and a limit of retention " +
				"are deleted before their time, at log.disk.throttle.free.bytes at the latest; 1 is never."},
		{Name: "log.disk.throttle.free.bytes", Type: TypeLong, Default: "-1", Min: -1, Max: anyNumber, Dynamic: true,
			Doc: "Free bytes of a disk below which producers are slowed down; -1 is 5 % of the disk, at most 4 GiB; 0 is never."},
		{Name: "log.disk.reserve.bytes", Type: TypeLong, Default: "-1", Min: -1, Max: anyNumber, Dynamic: true,
			Doc: "Free bytes of a disk below which producers' records are refused with KAFKA_STORAGE_ERROR and the broker's own work goes on; " +
				"-1 is 1 % of the disk, at most 1 GiB; 0 is none."},
		{Name: "log.disk.throttle.max.ms", Type: TypeInt, Default: "1000", Min: 0, Max: 30000, Dynamic: true,
			Doc: "Longest pause of a producer's connection after a request, in milliseconds: 0 at log.disk.throttle.free.bytes, " +
				"growing to this at log.disk.reserve.bytes; 0 is no throttling."},
	}
}

// logDefaultKeys are the broker-wide defaults of the topic keys.
func logDefaultKeys() []Key {
	names := map[string]bool{}
	var keys []Key
	for _, topic := range topicKeys() {
		if topic.Broker == "" || names[topic.Broker] {
			continue
		}
		names[topic.Broker] = true
		key := topic
		key.Name, key.Broker, key.Dynamic = topic.Broker, "", true
		keys = append(keys, key)
	}
	return append(keys,
		Key{Name: "log.retention.minutes", Type: TypeLong, Default: "", Min: -1, Max: 1e9, Doc: "log.retention.ms in minutes, where that is not set."},
		Key{Name: "log.retention.hours", Type: TypeLong, Default: "168", Min: -1, Max: 1e8,
			Doc: "log.retention.ms in hours, where neither that nor the minutes are set."},
		Key{Name: "log.roll.hours", Type: TypeLong, Default: "168", Min: 1, Max: 1e8, Doc: "log.roll.ms in hours, where that is not set."},
	)
}
