package broker

// configHandlers are the table rows of the APIs that read or change configuration.
func (b *Broker) configHandlers() []handler {
	return nil
}
