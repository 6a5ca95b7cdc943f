package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// coalesceMax is the largest number of overdue requests that one writev takes.
const coalesceMax = 32

// openLoopLimit bounds the requests in flight of an open-loop connection: memory only, a schedule does not wait for answers.
const openLoopLimit = 1 << 20

// giveUpAfter is how long after the end a sender goes on with requests that are overdue because the target took no more. Then the rest of
// the schedule is dropped, and each of its requests counts with the response time that it had reached: a broker at twice its capacity would
// otherwise have to be waited for as long as the measurement took.
const giveUpAfter = time.Second

// preciseConnsMax is the number of senders that get a thread of their own for precise sleeping.
const preciseConnsMax = 128

// blockedWrite is how long a write must take to count as back-pressure of the target and not as the generator's own time.
const blockedWrite = 2 * time.Millisecond

// counters are one worker's totals since the start. All in units named; read by the collector.
type counters struct {
	sent, acked, failed    atomic.Int64 // produce requests
	unsent                 atomic.Int64 // produce requests of the schedule that were given up, see giveUpAfter
	ackedBytes, wireBytes  atomic.Int64 // value bytes acknowledged; bytes written to the socket
	read, readBytes        atomic.Int64 // batches and value bytes that tail consumers had
	catchRead, catchBytes  atomic.Int64 // the same of catch-up readers
	fetches, fetchedOnWire atomic.Int64 // responses, record bytes
}

// produceFrames holds, per template, the bytes before a batch: frame length, request header and the fields of the request.
type produceFrames struct {
	prefix       [][]byte
	correlation  int // position of the correlation id
	partitionPos int
}

func newProduceFrames(topic string, acks Acks, templates []*template) *produceFrames {
	f := &produceFrames{}
	for _, t := range templates {
		b := make([]byte, 4, 96)
		b = binary.BigEndian.AppendUint16(b, 0)
		b = binary.BigEndian.AppendUint16(b, produceVersion)
		f.correlation = len(b)
		b = append(b, 0, 0, 0, 0)
		b = appendKafkaString(b, clientID)
		b = append(b, 0xff, 0xff) // no transactional id
		b = binary.BigEndian.AppendUint16(b, uint16(acks))
		b = binary.BigEndian.AppendUint32(b, 30_000)
		b = binary.BigEndian.AppendUint32(b, 1)
		b = appendKafkaString(b, topic)
		b = binary.BigEndian.AppendUint32(b, 1)
		f.partitionPos = len(b)
		b = append(b, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(len(t.batch)))
		binary.BigEndian.PutUint32(b, uint32(len(b)-4+len(t.batch)))
		f.prefix = append(f.prefix, b)
	}
	return f
}

func appendKafkaString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// producer is one raw producing connection. run may be called again (fill, then measure); sequences continue.
type producer struct {
	r          *run
	index      int
	addr       string
	partitions []int32
	w          *wire
	q          *inflight
	rec        *recorder
	cnt        *counters

	correlation int32
	turn        int // next partition and template
	heads       []byte
	trailers    [coalesceMax][4]byte
	iov         net.Buffers
	out         net.Buffers // what is left of iov in a write; a field, since its address escapes
	batch       []pending
	freeAt      int64 // when the target last let go of a blocked write, ns
	in          []byte
	have        int // in[:have] is the begin of an answer
}

// pace says when a producer's requests are due.
type pace struct {
	schedule *Schedule     // nil: as fast as the in-flight bound allows
	quota    *atomic.Int64 // nil, or requests left, shared by all producers of a fill
}

// run sends until the run's stop time, the quota or ctx ends it, then waits for the answers. The error is the connection's.
func (p *producer) run(ctx context.Context, pc pace) error {
	limit := p.r.spec.InFlight
	if pc.schedule != nil {
		limit = openLoopLimit
	}
	p.q = newInflight(limit)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { p.q.closePush(); p.interrupt() })
	defer stop()
	if pc.schedule == nil && limit == 1 && p.r.spec.Acks != 0 {
		return p.ended(ctx, p.lockstep(ctx, pc))
	}
	var wg sync.WaitGroup
	if p.r.spec.Acks != 0 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := p.receive(); err != nil {
				cancel(err)
			}
		}()
	}
	err := p.send(ctx, pc)
	p.q.closePush()
	if err != nil {
		cancel(err)
	} else if p.r.spec.Acks != 0 {
		_ = p.w.c.SetReadDeadline(time.Now().Add(p.r.spec.Drain))
		if ctx.Err() != nil {
			p.interrupt() // that may have undone one
		}
	}
	wg.Wait()
	return p.ended(ctx, err)
}

// interrupt ends what waits for the connection.
func (p *producer) interrupt() { _ = p.w.c.SetDeadline(time.Unix(1, 0)) }

// ended closes the books after run; err is what ended it.
func (p *producer) ended(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case cause == nil:
	case !errors.Is(cause, context.Canceled):
		err = cause
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = nil // run was told to end; what is unanswered has failed
	}
	p.abandon()
	if err == nil {
		err = p.w.c.SetDeadline(time.Time{})
	}
	if err != nil {
		return fmt.Errorf("producer connection %d to %s: %w", p.index, p.addr, err)
	}
	return nil
}

func (p *producer) congestion() string { return p.w.congestion }

// abandon counts what is still unanswered as failed.
func (p *producer) abandon() {
	for {
		req, ok := p.q.pop()
		if !ok {
			return
		}
		p.cnt.failed.Add(1)
		p.r.sent.fail(p.index, req.partition, req.seq)
	}
}

func (p *producer) send(ctx context.Context, pc pace) error {
	if pc.schedule != nil && p.r.spec.Conns <= preciseConnsMax {
		defer preciseThread()()
	}
	var next int64
	if pc.schedule != nil {
		next = pc.schedule.Next()
	}
	for ctx.Err() == nil {
		if pc.schedule != nil {
			stop := p.r.stopAt.Load()
			if next >= stop {
				return nil
			}
			if p.r.clock.now()-stop > int64(giveUpAfter) { // stop is the largest integer until the end is known
				p.giveUp(pc.schedule, next, stop)
				return nil
			}
			if wait := next - p.r.clock.now(); wait > 0 {
				p.sleep(time.Duration(min(wait, int64(50*time.Millisecond))))
				continue
			}
		}
		room := p.q.waitRoom()
		now := p.r.clock.now()
		if room == 0 || now >= p.r.stopAt.Load() && pc.schedule == nil {
			return nil
		}
		p.batch = p.batch[:0]
		for n := min(room, coalesceMax); len(p.batch) < n; {
			req := pending{intended: now, sent: now}
			if pc.schedule != nil {
				if next > now || next >= p.r.stopAt.Load() {
					break
				}
				req.intended = next
				next = pc.schedule.Next()
			} else if pc.quota != nil && pc.quota.Add(-1) < 0 {
				break
			}
			p.prepare(&req)
			p.batch = append(p.batch, req)
		}
		if len(p.batch) == 0 {
			if pc.quota != nil && pc.quota.Load() <= 0 {
				return nil
			}
			continue
		}
		if err := p.write(pc.schedule != nil); err != nil {
			return err
		}
	}
	return nil
}

// lockstep is send and receive by one goroutine, for one request at a time: what two would tell each other costs the generator several times what
// the request does. With more in flight a write could block while answers are there to be read, and they would be read late.
func (p *producer) lockstep(ctx context.Context, pc pace) error {
	for ctx.Err() == nil {
		now := p.r.clock.now()
		if now >= p.r.stopAt.Load() || pc.quota != nil && pc.quota.Add(-1) < 0 {
			return nil
		}
		req := pending{intended: now, sent: now}
		p.prepare(&req)
		p.batch = append(p.batch[:0], req)
		if err := p.write(false); err != nil {
			return err
		}
		for p.q.len() > 0 {
			if err := p.readAnswers(); err != nil {
				if ctx.Err() != nil {
					return nil // run was told to end; what is unanswered has failed
				}
				return err
			}
		}
	}
	return nil
}

// giveUp counts what the schedule still had before stop.
func (p *producer) giveUp(schedule *Schedule, next, stop int64) {
	now := p.r.clock.now()
	for ; next < stop; next = schedule.Next() {
		p.cnt.unsent.Add(1)
		if p.r.measured(next) {
			p.rec.record(metricResponse, now-next)
			p.rec.record(metricSlip, now-next)
		}
	}
}

func (p *producer) sleep(d time.Duration) {
	if p.r.spec.Conns <= preciseConnsMax {
		preciseSleep(d)
		return
	}
	time.Sleep(d)
}

// prepare chooses partition, template and sequence of a request.
func (p *producer) prepare(req *pending) {
	req.partition = p.partitions[p.turn%len(p.partitions)]
	req.template = int32(p.turn % len(p.r.templates))
	p.turn++
	next := &p.r.sent.next[p.index][req.partition]
	req.seq = *next
	*next++
	p.correlation++
	req.correlation = p.correlation
}

// write encodes the prepared requests and sends them with one writev.
func (p *producer) write(open bool) error {
	p.heads, p.iov = p.heads[:0], p.iov[:0]
	need := 0
	for i := range p.batch {
		need += len(p.r.frames.prefix[p.batch[i].template]) + p.r.templates[p.batch[i].template].head()
	}
	if cap(p.heads) < need {
		p.heads = make([]byte, 0, 2*need)
	}
	wall := time.Now().UnixMilli()
	var bytes int64
	for i := range p.batch {
		req := &p.batch[i]
		t := p.r.templates[req.template]
		prefix := p.r.frames.prefix[req.template]
		at := len(p.heads)
		p.heads = append(append(p.heads, prefix...), t.batch[:t.head()]...)
		frame := p.heads[at:]
		binary.BigEndian.PutUint32(frame[p.r.frames.correlation:], uint32(req.correlation))
		binary.BigEndian.PutUint32(frame[p.r.frames.partitionPos:], uint32(req.partition))
		s := stamp{run: p.r.id, producer: uint32(p.index), seq: req.seq, intended: req.intended, template: uint32(req.template)}
		trailer := t.stampInto(frame[len(prefix):], &s, wall)
		if t.trailPos > 0 {
			binary.LittleEndian.PutUint32(p.trailers[i][:], trailer)
			p.iov = append(p.iov, frame, t.batch[t.head():t.trailPos], p.trailers[i][:], t.batch[t.trailPos+4:])
		} else {
			p.iov = append(p.iov, frame, t.batch[t.head():])
		}
		bytes += int64(len(prefix) + len(t.batch))
	}
	sent := p.r.clock.now()
	for i := range p.batch {
		p.batch[i].sent = sent
	}
	if p.r.spec.Acks != 0 {
		p.q.push(p.batch)
	}
	p.cnt.sent.Add(int64(len(p.batch)))
	p.out = p.iov
	if _, err := p.out.WriteTo(p.w.c); err != nil {
		if p.r.spec.Acks == 0 {
			for i := range p.batch {
				p.r.sent.fail(p.index, p.batch[i].partition, p.batch[i].seq)
			}
		}
		return err
	}
	p.cnt.wireBytes.Add(bytes)
	p.noteSent(open, sent)
	return nil
}

// noteSent records slip, the generator's own lag, and for acks=0 the only latency there is: until the kernel took the bytes.
func (p *producer) noteSent(open bool, sent int64) {
	done := p.r.clock.now()
	for i := range p.batch {
		req := &p.batch[i]
		if open && p.r.measured(req.intended) {
			p.rec.record(metricSlip, sent-req.intended)
			p.rec.record(metricLag, sent-max(req.intended, p.freeAt))
		}
		if p.r.spec.Acks == 0 {
			p.complete(req, done, 0)
		}
	}
	if done-sent > int64(blockedWrite) {
		p.freeAt = done
	}
}

// receive reads answers until the sender has stopped and nothing is in flight.
func (p *producer) receive() error {
	for p.q.waitMore() {
		if err := p.readAnswers(); err != nil {
			return err
		}
	}
	return nil
}

// answerBytes is the first size of the buffer for answers.
const answerBytes = 16 << 10

// readAnswers reads once and handles the answers that are complete.
func (p *producer) readAnswers() error {
	if p.in == nil {
		p.in = make([]byte, answerBytes)
	}
	n, err := p.w.c.Read(p.in[p.have:])
	have, used := p.have+n, 0
	now := p.r.clock.now()
	for have-used >= 4 {
		size := int(int32(binary.BigEndian.Uint32(p.in[used:])))
		if size < 4 || size > 1<<20 {
			return fmt.Errorf("produce response of %d bytes", size)
		}
		if have-used < 4+size {
			break
		}
		if err := p.answer(p.in[used+4:used+4+size], now); err != nil {
			return err
		}
		used += 4 + size
	}
	copy(p.in, p.in[used:have])
	p.have = have - used
	if p.have == len(p.in) {
		p.in = append(p.in, make([]byte, len(p.in))...)
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%d requests without an answer: %w", p.q.len(), err)
	default:
		return err
	}
}

// answer matches one response with the oldest request in flight.
func (p *producer) answer(body []byte, now int64) error {
	req, ok := p.q.pop()
	if !ok {
		return errors.New("response without a request")
	}
	if got := int32(binary.BigEndian.Uint32(body)); got != req.correlation {
		return fmt.Errorf("response with correlation id %d, want %d", got, req.correlation)
	}
	code, err := produceResponseCode(body[4:], req.partition)
	if err != nil {
		return err
	}
	p.complete(&req, now, code)
	return nil
}

func (p *producer) complete(req *pending, now int64, code int16) {
	if code != 0 {
		p.cnt.failed.Add(1)
		p.r.sent.fail(p.index, req.partition, req.seq)
		p.r.noteError(&CodeError{What: fmt.Sprintf("produce to %s-%d", p.r.topic, req.partition), Code: code})
		return
	}
	p.cnt.acked.Add(1)
	p.cnt.ackedBytes.Add(p.r.templates[req.template].valueBytes)
	if p.r.measured(req.intended) {
		p.rec.record(metricResponse, now-req.intended)
		p.rec.record(metricService, now-req.sent)
	}
}

// produceResponseCode finds the error code in a Produce v7 response for one partition.
func produceResponseCode(b []byte, partition int32) (int16, error) {
	if len(b) >= 6 && binary.BigEndian.Uint32(b) == 1 {
		if n := int(binary.BigEndian.Uint16(b[4:])); len(b) >= 6+n+10 && binary.BigEndian.Uint32(b[6+n:]) == 1 {
			if got := int32(binary.BigEndian.Uint32(b[6+n+4:])); got != partition {
				return 0, fmt.Errorf("produce response for partition %d, want %d", got, partition)
			}
			return int16(binary.BigEndian.Uint16(b[6+n+8:])), nil
		}
	}
	return 0, fmt.Errorf("produce response of %d bytes does not answer one partition", len(b))
}
