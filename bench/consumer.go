package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/protocol"
	"github.com/weirmq/weir/record"
)

// consumer is one reader's connection to one broker: it fetches the partitions led there, from the first offset, one fetch
// in flight, with a fetch session (KIP-227) where the broker offers one. All fields belong to its goroutine.
type consumer struct {
	r     *run
	name  string
	addr  string
	parts []fetchPartition
	led   *ledger
	w     *wire
	in    *streamReader
	rec   *recorder
	cnt   *counters

	byID    map[int32]int     // partition -> index in parts
	moved   []*fetchPartition // those marked dirty, in the order they became so: with thousands of partitions a request names few
	session int32
	epoch   int32
	frame   []byte
	inflate []byte
	corr    int32
	rotate  int
	goal    []int64 // catch-up readers: the end offsets when they started, by partition; nil once they are reached
}

// fetchPartition is the position of a reader in one partition.
type fetchPartition struct {
	id     int32
	offset int64
	dirty  bool // the session does not know this offset yet
}

// run fetches until drain targets are reached or ctx ends, which is no error.
func (c *consumer) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.w.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.byID = make(map[int32]int, len(c.parts))
	for i := range c.parts {
		c.byID[c.parts[i].id] = i
	}
	for ctx.Err() == nil {
		if c.drained() {
			return nil
		}
		sent := c.r.clock.now()
		if _, err := c.w.c.Write(c.request()); err != nil {
			return c.fail(ctx, err)
		}
		if err := c.response(); err != nil {
			return c.fail(ctx, err)
		}
		c.cnt.fetches.Add(1)
		if c.goal != nil && c.r.measured(sent) {
			c.rec.record(metricCatchUp, c.r.clock.now()-sent)
		}
		c.checkGoal()
	}
	return nil
}

func (c *consumer) congestion() string { return c.w.congestion }

func (c *consumer) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", c.name, c.addr, err)
}

// checkGoal notes the moment when a catch-up reader has what was there when it started; from then on it is a tail reader.
func (c *consumer) checkGoal() {
	if c.goal == nil {
		return
	}
	for i := range c.parts {
		if c.parts[i].offset < c.goal[c.parts[i].id] {
			return
		}
	}
	c.goal = nil
	c.r.caughtUp(c.r.clock.now())
}

// drained reports whether every partition has been read to the end that the run announced.
func (c *consumer) drained() bool {
	ends := c.r.drainTo.Load()
	if ends == nil {
		return false
	}
	for i := range c.parts {
		if c.parts[i].offset < (*ends)[c.parts[i].id] {
			return false
		}
	}
	return true
}

// request encodes the next Fetch v11: every partition, or with a session those whose offset moved.
func (c *consumer) request() []byte {
	spec := c.r.spec
	b := append(c.frame[:0], 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, fetchVersion)
	c.corr++
	b = binary.BigEndian.AppendUint32(b, uint32(c.corr))
	b = appendKafkaString(b, clientID)
	b = append(b, 0xff, 0xff, 0xff, 0xff) // replica -1: a consumer
	b = binary.BigEndian.AppendUint32(b, uint32(spec.FetchWait.Milliseconds()))
	b = binary.BigEndian.AppendUint32(b, uint32(spec.FetchMin))
	b = binary.BigEndian.AppendUint32(b, uint32(spec.FetchBytes))
	b = append(b, 0) // read uncommitted
	b = binary.BigEndian.AppendUint32(b, uint32(c.session))
	b = binary.BigEndian.AppendUint32(b, uint32(c.epoch))
	count := len(c.moved)
	if c.session == 0 {
		count = len(c.parts)
	}
	if count == 0 {
		b = binary.BigEndian.AppendUint32(b, 0)
	} else {
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendKafkaString(b, c.r.topic)
		b = binary.BigEndian.AppendUint32(b, uint32(count))
		for i := range count {
			p := &c.parts[(i+c.rotate)%len(c.parts)]
			if c.session != 0 {
				p = c.moved[i]
			}
			p.dirty = false
			b = binary.BigEndian.AppendUint32(b, uint32(p.id))
			b = append(b, 0xff, 0xff, 0xff, 0xff) // leader epoch unknown
			b = binary.BigEndian.AppendUint64(b, uint64(p.offset))
			b = binary.BigEndian.AppendUint64(b, ^uint64(0)) // log start -1: a consumer
			b = binary.BigEndian.AppendUint32(b, uint32(spec.FetchBytes))
		}
		c.rotate++
	}
	c.moved = c.moved[:0]           // a request without a session names them too
	b = append(b, 0, 0, 0, 0, 0, 0) // nothing forgotten, no rack
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.frame = b
	return b
}

// newSession forgets the session: the next request lists every partition.
func (c *consumer) newSession() {
	c.session, c.epoch = 0, 0
}

// mark has the next request tell the partition's offset.
func (c *consumer) mark(p *fetchPartition) {
	if !p.dirty {
		p.dirty = true
		c.moved = append(c.moved, p)
	}
}

// response reads one Fetch v11 response as it arrives.
func (c *consumer) response() error {
	head, err := c.in.take(22) // length, correlation, throttle, error, session, number of topics
	if err != nil {
		return err
	}
	left := int64(int32(binary.BigEndian.Uint32(head))) - 18
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != c.corr {
		return fmt.Errorf("fetch response with correlation id %d, want %d", got, c.corr)
	}
	code := protocol.ErrorCode(binary.BigEndian.Uint16(head[12:]))
	session, topics := int32(binary.BigEndian.Uint32(head[14:])), int(int32(binary.BigEndian.Uint32(head[18:])))
	switch {
	case code == protocol.ErrFetchSessionIDNotFound || code == protocol.ErrInvalidFetchSessionEpoch:
		c.newSession()
		return c.in.skip(left)
	case code != protocol.ErrNone:
		return &CodeError{What: "fetch", Code: int16(code)}
	case session != 0:
		c.session = session
		c.epoch++
		if c.epoch < 1 {
			c.epoch = 1
		}
	}
	for ; topics > 0; topics-- {
		if err := c.responseTopic(); err != nil {
			return err
		}
	}
	return nil
}

func (c *consumer) responseTopic() error {
	b, err := c.in.take(2)
	if err != nil {
		return err
	}
	name := int(binary.BigEndian.Uint16(b))
	if b, err = c.in.take(name + 4); err != nil {
		return err
	}
	for n := int(int32(binary.BigEndian.Uint32(b[name:]))); n > 0; n-- {
		if err := c.responsePartition(); err != nil {
			return err
		}
	}
	return nil
}

// responsePartition reads one partition: index, error, three offsets, aborted transactions, preferred replica, records.
func (c *consumer) responsePartition() error {
	b, err := c.in.take(34)
	if err != nil {
		return err
	}
	id, code := int32(binary.BigEndian.Uint32(b)), int16(binary.BigEndian.Uint16(b[4:]))
	if aborted := int64(int32(binary.BigEndian.Uint32(b[30:]))); aborted > 0 {
		if err := c.in.skip(16 * aborted); err != nil {
			return err
		}
	}
	if b, err = c.in.take(8); err != nil {
		return err
	}
	left := int64(int32(binary.BigEndian.Uint32(b[4:])))
	i, ok := c.byID[id]
	if !ok {
		return fmt.Errorf("fetch response for partition %d, which was not asked for", id)
	}
	if code != 0 {
		c.mark(&c.parts[i])
		return kafkaError(code, fmt.Sprintf("fetch of %s-%d at offset %d", c.r.topic, id, c.parts[i].offset))
	}
	if left > 0 {
		c.cnt.fetchedOnWire.Add(left)
	}
	for left > 0 {
		used, err := c.batch(&c.parts[i], left)
		if err != nil {
			return err
		}
		left -= used
	}
	return nil
}

// batch reads one batch of at most left bytes and returns how many it consumed. A batch that is cut off by the end of the
// partition's bytes is skipped: the next fetch brings it whole.
func (c *consumer) batch(p *fetchPartition, left int64) (int64, error) {
	headLen := c.r.headBytes
	if left < int64(headLen) {
		return left, c.in.skip(left)
	}
	head, err := c.in.peek(headLen)
	if err != nil {
		return 0, err
	}
	b := record.Batch(head)
	base, size, delta := b.BaseOffset(), int64(b.Size()), b.LastOffsetDelta()
	t := &c.led.truth
	if b.Magic() != record.Magic || size < int64(headLen) || delta < 0 {
		t.fault(&t.Corrupt, "partition %d offset %d: magic %d, size %d, last offset delta %d", p.id, p.offset, b.Magic(), size, delta)
		return left, c.in.skip(left)
	}
	if size > left {
		return left, c.in.skip(left)
	}
	s, ok := c.r.findStamp(head)
	if base != p.offset {
		t.fault(&t.OffsetGap, "partition %d: batch at offset %d, want %d", p.id, base, p.offset)
	}
	if !ok {
		t.fault(&t.Corrupt, "partition %d offset %d: stamp with a wrong checksum", p.id, base)
	}
	if c.r.spec.Verify == VerifyFull {
		whole, err := c.in.take(int(size))
		if err != nil {
			return 0, err
		}
		c.verify(p, record.Batch(whole), &s)
	} else if err := c.in.skip(size); err != nil {
		return 0, err
	}
	if ok {
		c.led.see(p.id, base, &s)
	}
	p.offset = base + int64(delta) + 1
	c.mark(p)
	c.count(&s, ok)
	return size, nil
}

func (c *consumer) count(s *stamp, ok bool) {
	values := c.r.unitBytes
	if c.goal != nil {
		c.cnt.catchRead.Add(1)
		c.cnt.catchBytes.Add(values)
		return
	}
	c.cnt.read.Add(1)
	c.cnt.readBytes.Add(values)
	if ok && s.run == c.r.id && c.r.measured(s.intended) {
		c.rec.record(metricEndToEnd, c.r.clock.now()-s.intended)
	}
}

// verify checks the batch's CRC, decodes every record and checks its CRC and the record count.
func (c *consumer) verify(p *fetchPartition, b record.Batch, s *stamp) {
	t := &c.led.truth
	if err := b.CheckCRC(); err != nil {
		t.fault(&t.Corrupt, "partition %d offset %d: %v", p.id, b.BaseOffset(), err)
		return
	}
	it := b.Records(c.inflate, readerBufferMax)
	n := 0
	for ; it.Next(); n++ {
		v := it.Record().Value
		if len(v) < checkBytes || binary.LittleEndian.Uint32(v) != valueCheck(n, v) {
			t.fault(&t.Corrupt, "partition %d offset %d: record with a wrong checksum", p.id, it.Offset())
		}
		t.Records++
	}
	c.inflate = it.Buffer()
	if err := it.Err(); err != nil {
		t.fault(&t.Corrupt, "partition %d offset %d: %v", p.id, b.BaseOffset(), err)
	} else if want := int(c.r.templates[0].recordCount); n != want {
		t.fault(&t.Corrupt, "partition %d offset %d: %d records in batch %d of producer %d, want %d", p.id, b.BaseOffset(), n, s.seq,
			s.producer, want)
	}
}

var errNotDrained = errors.New("not all acknowledged records were read before the drain time ended")
