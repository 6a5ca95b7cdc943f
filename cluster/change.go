package cluster

// Change is what a group of entries did to the image.
type Change struct {
	Old, New *Image
	// Created, Changed and Removed are the topics that the group touched, in log order; Changed has new partitions or new
	// configuration. A topic may be in several, and more than once in Changed: New tells what holds in the end.
	Created, Changed, Removed []*Topic
	// Brokers are the broker resources whose configuration changed.
	Brokers []Resource
}

// note adds what an applied record did.
func (c *Change) note(r Record, res Result) {
	if res.Err != nil {
		return
	}
	switch r := r.(type) {
	case *TopicRecord:
		c.Created = append(c.Created, res.Topic)
	case *PartitionsRecord:
		c.Changed = append(c.Changed, res.Topic)
	case *RemoveTopicRecord:
		c.Removed = append(c.Removed, res.Topic)
	case *ConfigsRecord:
		if r.Resource.Type == ResourceTopic {
			c.Changed = append(c.Changed, res.Topic)
		} else {
			c.Brokers = append(c.Brokers, r.Resource)
		}
	}
}
