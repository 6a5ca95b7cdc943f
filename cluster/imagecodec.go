package cluster

import (
	"encoding/binary"
	"math"
	"slices"
)

// appendImage appends the image, without voters and header: index, term, cluster id, next producer id, then four lists:
//
//	brokers  name string, version, configs map                                            in order of the names
//	topics   name string, id 16 bytes, config version, configs map, partitions            in order of the names
//	         partitions = number of runs, per run: how many, leader + 1, leader epoch, replicas, in-sync replicas
//	removed  name string, id 16 bytes, partition count                                    in order of the ids
func appendImage(dst []byte, i *Image) []byte {
	dst = binary.AppendUvarint(dst, i.index)
	dst = binary.AppendUvarint(dst, i.term)
	dst = appendString(dst, i.clusterID)
	dst = binary.AppendUvarint(dst, uint64(i.nextProducerID))
	dst = binary.AppendUvarint(dst, uint64(i.brokers.count))
	for name, configs := range i.brokers.all() {
		dst = appendString(dst, name)
		dst = binary.AppendUvarint(dst, configs.Version)
		dst = appendConfigs(dst, configs.Values)
	}
	dst = binary.AppendUvarint(dst, uint64(i.topics.count))
	for name, t := range i.topics.all() {
		dst = appendString(dst, name)
		dst = append(dst, t.ID[:]...)
		dst = binary.AppendUvarint(dst, t.Configs.Version)
		dst = appendConfigs(dst, t.Configs.Values)
		dst = appendPartitions(dst, t.Partitions)
	}
	dst = binary.AppendUvarint(dst, uint64(i.removed.count))
	for _, r := range i.removed.all() {
		dst = appendString(dst, r.Name)
		dst = append(dst, r.ID[:]...)
		dst = binary.AppendUvarint(dst, uint64(r.PartitionCount))
	}
	return dst
}

func (p *Partition) equal(o *Partition) bool {
	return p.Leader == o.Leader && p.LeaderEpoch == o.LeaderEpoch && slices.Equal(p.Replicas, o.Replicas) && slices.Equal(p.ISR, o.ISR)
}

// appendPartitions writes equal neighbours once.
func appendPartitions(dst []byte, partitions []Partition) []byte {
	end := func(p int) int {
		e := p + 1
		for e < len(partitions) && partitions[p].equal(&partitions[e]) {
			e++
		}
		return e
	}
	runs := 0
	for p := 0; p < len(partitions); p = end(p) {
		runs++
	}
	dst = binary.AppendUvarint(dst, uint64(runs))
	for p := 0; p < len(partitions); {
		e, first := end(p), &partitions[p]
		dst = binary.AppendUvarint(dst, uint64(e-p))
		dst = binary.AppendUvarint(dst, uint64(first.Leader+1))
		dst = binary.AppendUvarint(dst, uint64(first.LeaderEpoch))
		dst = appendNodes(dst, first.Replicas)
		dst = appendNodes(dst, first.ISR)
		p = e
	}
	return dst
}

// image reads an image and holds it against the rules that Apply keeps; nil after an error.
func (d *decoder) image() *Image {
	i := newImage()
	i.index = d.uvarint("index")
	i.term = d.uvarint("term")
	i.clusterID = d.string("cluster id", nameBytesMax)
	i.nextProducerID = int64(d.uvarint("next producer id"))
	if i.nextProducerID < 0 {
		d.failf("the next producer id overflows")
	}
	d.imageBrokers(i)
	d.imageTopics(i)
	d.imageRemoved(i)
	if d.err != nil {
		return nil
	}
	return i
}

func (d *decoder) imageBrokers(i *Image) {
	last := ""
	for n := range d.brokerCount() {
		name, configs := d.broker(n == 0, last)
		if d.err != nil {
			return
		}
		i.brokers, last = i.brokers.set(name, configs), name
	}
}

func (d *decoder) brokerCount() int  { return d.count("brokers", math.MaxInt32, 3) }
func (d *decoder) topicCount() int   { return d.count("topics", math.MaxInt32, 20) }
func (d *decoder) removedCount() int { return d.count("removed topics", math.MaxInt32, 18) }
func (d *decoder) runCount() int     { return d.count("partition runs", partitionsMax, 5) }

// broker reads one broker's configuration; last is the name before, unless it is the first.
func (d *decoder) broker(first bool, last string) (name string, configs Configs) {
	name = d.string("broker", nameBytesMax)
	if !first && name <= last {
		d.failf("broker %q after %q: names must ascend", name, last)
	}
	return name, Configs{Version: d.uvarint("config version"), Values: d.configs()}
}

// topicHead reads a topic up to its partitions.
func (d *decoder) topicHead() *Topic {
	t := &Topic{Name: d.string("topic", nameBytesMax), ID: d.id()}
	t.Configs.Version = d.uvarint("config version")
	t.Configs.Values = d.configs()
	return t
}

func (d *decoder) removed() RemovedTopic {
	return RemovedTopic{Name: d.string("removed topic", nameBytesMax), ID: d.id(), PartitionCount: d.int32("partitions")}
}

func (d *decoder) imageTopics(i *Image) {
	last := ""
	for range d.topicCount() {
		t := d.topicHead()
		t.Partitions = d.imagePartitions()
		if d.err != nil {
			return
		}
		if err := CheckTopicName(t.Name); err != nil {
			d.failf("%v", err)
		} else if t.Name <= last {
			d.failf("topic %q after %q: names must ascend", t.Name, last)
		} else if i.TopicByID(t.ID) != nil || t.ID == (TopicID{}) {
			d.failf("topic %q: id %s is not its own", t.Name, t.ID)
		} else if len(t.Partitions) == 0 {
			d.failf("topic %q has no partitions", t.Name)
		}
		similar, ok := similarName(t.Name)
		if other, clash := i.similar.get(similar); ok && clash {
			d.failf("topic %q collides with %q", t.Name, other)
		}
		if d.err != nil {
			return
		}
		if ok {
			i.similar = i.similar.set(similar, t.Name)
		}
		i.topics = i.topics.set(t.Name, t)
		i.topicIDs = i.topicIDs.set(t.ID, t)
		i.partitions += len(t.Partitions)
		last = t.Name
	}
}

// imagePartitions reads runs of equal partitions; the partitions of a run share their slices.
func (d *decoder) imagePartitions() []Partition {
	var partitions []Partition
	for range d.runCount() {
		length, p := d.run()
		if d.err != nil {
			return nil
		}
		partitions = slices.Grow(partitions, length)
		for range length {
			partitions = append(partitions, p)
		}
	}
	return partitions
}

// run reads a run of equal partitions.
func (d *decoder) run() (length int, p Partition) {
	length = d.count("partitions of a run", d.partitions, 0)
	p = Partition{Leader: d.int32("leader") - 1, LeaderEpoch: d.int32("leader epoch")}
	p.Replicas = d.nodes("replicas")
	p.ISR = d.nodes("in-sync replicas")
	if d.err == nil && (length == 0 || len(p.Replicas) == 0) {
		d.failf("a run of %d partitions with %d replicas", length, len(p.Replicas))
	}
	if slices.Equal(p.ISR, p.Replicas) {
		p.ISR = p.Replicas
	}
	d.partitions -= length
	return length, p
}

func (d *decoder) imageRemoved(i *Image) {
	for range d.removedCount() {
		r := d.removed()
		if d.err != nil {
			return
		}
		if _, twice := i.removed.get(r.ID); twice || i.TopicByID(r.ID) != nil {
			d.failf("removed topic %q: id %s is not its own", r.Name, r.ID)
			return
		}
		i.removed = i.removed.set(r.ID, r)
	}
}
