package broker

// clusterHandlers are the table rows of the APIs that read or change the cluster's metadata.
func (b *Broker) clusterHandlers() []handler {
	return nil
}
