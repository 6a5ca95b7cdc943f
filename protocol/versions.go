package protocol

// Keys of the APIs that are served. Kafka's names.
const (
	KeyProduce                   int16 = 0
	KeyFetch                     int16 = 1
	KeyListOffsets               int16 = 2
	KeyMetadata                  int16 = 3
	KeyApiVersions               int16 = 18
	KeyCreateTopics              int16 = 19
	KeyDeleteTopics              int16 = 20
	KeyDeleteRecords             int16 = 21
	KeyInitProducerID            int16 = 22
	KeyOffsetForLeaderEpoch      int16 = 23
	KeyDescribeConfigs           int16 = 32
	KeyAlterConfigs              int16 = 33
	KeyDescribeLogDirs           int16 = 35
	KeyCreatePartitions          int16 = 37
	KeyIncrementalAlterConfigs   int16 = 44
	KeyDescribeCluster           int16 = 60
	KeyGetTelemetrySubscriptions int16 = 71
	KeyPushTelemetry             int16 = 72
	KeyDescribeTopicPartitions   int16 = 75
)

// VersionRange says which versions of an API are served. Min and Max are what ApiVersions advertises, inclusive.
type VersionRange struct {
	Key      int16 // the API, one of the Key constants
	Min, Max int16
	// ServedMin is the lowest version whose body is decoded. It differs from Min only for Produce: Kafka advertises 0
	// to 2 because librdkafka infers features from them (KAFKA-18659) and answers them with UNSUPPORTED_VERSION.
	ServedMin int16
	// FlexibleFrom is the first version with tagged fields (KIP-482).
	FlexibleFrom int16
}

// Serves reports whether the body of the given version is decoded.
func (r VersionRange) Serves(version int16) bool { return version >= r.ServedMin && version <= r.Max }

// served is the table behind Supported, sorted by key: the ranges of Apache Kafka 4.4's broker listener, for the APIs
// that weir implements in full. kmsg knows every one of these maxima (a test says so).
var served = [...]VersionRange{
	{Key: KeyProduce, Min: 0, Max: 13, ServedMin: 3, FlexibleFrom: 9},
	{Key: KeyFetch, Min: 4, Max: 18, ServedMin: 4, FlexibleFrom: 12},
	{Key: KeyListOffsets, Min: 1, Max: 11, ServedMin: 1, FlexibleFrom: 6},
	{Key: KeyMetadata, Min: 0, Max: 13, ServedMin: 0, FlexibleFrom: 9},
	{Key: KeyApiVersions, Min: 0, Max: 5, ServedMin: 0, FlexibleFrom: 3},
	{Key: KeyCreateTopics, Min: 2, Max: 7, ServedMin: 2, FlexibleFrom: 5},
	{Key: KeyDeleteTopics, Min: 1, Max: 6, ServedMin: 1, FlexibleFrom: 4},
	{Key: KeyDeleteRecords, Min: 0, Max: 2, ServedMin: 0, FlexibleFrom: 2},
	{Key: KeyInitProducerID, Min: 0, Max: 5, ServedMin: 0, FlexibleFrom: 2},
	{Key: KeyOffsetForLeaderEpoch, Min: 2, Max: 4, ServedMin: 2, FlexibleFrom: 4},
	{Key: KeyDescribeConfigs, Min: 1, Max: 4, ServedMin: 1, FlexibleFrom: 4},
	{Key: KeyAlterConfigs, Min: 0, Max: 2, ServedMin: 0, FlexibleFrom: 2},
	{Key: KeyDescribeLogDirs, Min: 1, Max: 5, ServedMin: 1, FlexibleFrom: 2},
	{Key: KeyCreatePartitions, Min: 0, Max: 3, ServedMin: 0, FlexibleFrom: 2},
	{Key: KeyIncrementalAlterConfigs, Min: 0, Max: 1, ServedMin: 0, FlexibleFrom: 1},
	{Key: KeyDescribeCluster, Min: 0, Max: 2, ServedMin: 0, FlexibleFrom: 0},
	{Key: KeyGetTelemetrySubscriptions, Min: 0, Max: 0, ServedMin: 0, FlexibleFrom: 0},
	{Key: KeyPushTelemetry, Min: 0, Max: 0, ServedMin: 0, FlexibleFrom: 0},
	{Key: KeyDescribeTopicPartitions, Min: 0, Max: 0, ServedMin: 0, FlexibleFrom: 0},
}

// servedByKey finds the row of a key in O(1); -1 for a key that is not served.
var servedByKey = func() (index [128]int8) {
	for i := range index {
		index[i] = -1
	}
	for i, r := range served {
		index[r.Key] = int8(i)
	}
	return index
}()

// Supported returns the ranges of all APIs served, sorted by key. The slice is the caller's own.
func Supported() []VersionRange { return append([]VersionRange(nil), served[:]...) }

// SupportedRange returns the range of one API, false when it is not served.
func SupportedRange(key int16) (VersionRange, bool) {
	if key < 0 || int(key) >= len(servedByKey) || servedByKey[key] < 0 {
		return VersionRange{}, false
	}
	return served[servedByKey[key]], true
}
