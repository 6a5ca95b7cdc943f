package cluster

// Hard limits of the format, the same on every node: Apply and the decoders refuse what passes them.
const (
	partitionsMax    = 1 << 20 // partitions of all topics together
	replicasMax      = 1 << 7  // replicas of one partition
	topicNameMax     = 249     // bytes; Kafka's limit, which leaves room for "-<partition>" in a folder name
	configValueMax   = 1 << 16 // bytes of one configuration value
	configKeyMax     = 1 << 10 // bytes of one configuration key
	configCountMax   = 1 << 10 // values of one resource
	producerIDsMax   = 1 << 20 // producer ids of one block
	resourceNameMax  = 1 << 10 // bytes
	clusterIDMax     = 1 << 8  // bytes
	entryRecordsMax  = 1 << 14 // records of one entry
	entryBytesTarget = 256 << 10
)
