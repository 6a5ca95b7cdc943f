package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceAnswers remembers what the broker said last about each partition. The client tries again whatever may pass, and when the time is up it says
// that, but neither why the records were refused nor the broker's own words. So its connections are read along.
type produceAnswers struct {
	mu struct {
		sync.Mutex
		refused  map[int32]refusal // by partition: those whose last answer was an error
		throttle time.Duration     // that the last answer asked for
	}
}

// refusal is an answer that did not take the records.
type refusal struct {
	code *kerr.Error
	text string // the broker's own words, or empty
}

// option has a client's connections read along. timeout is for dialling.
func (a *produceAnswers) option(timeout time.Duration) kgo.Opt {
	dialer := &net.Dialer{Timeout: timeout}
	return kgo.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return a.listen(conn), nil
	})
}

// listen reads a new connection to a broker along.
func (a *produceAnswers) listen(conn net.Conn) net.Conn {
	c := &answeredConn{Conn: conn, answers: a, requests: frames{max: requestHeadBytes}, responses: frames{max: responseBytesMax}}
	c.mu.sent = map[uint32]int16{}
	return c
}

// note takes the answer to a produce request. Its partitions are all of one topic.
func (a *produceAnswers) note(resp *kmsg.ProduceResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.throttle = time.Duration(resp.ThrottleMillis) * time.Millisecond
	if a.mu.refused == nil {
		a.mu.refused = map[int32]refusal{}
	}
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if p.ErrorCode == 0 {
				delete(a.mu.refused, p.Partition)
				continue
			}
			said := refusal{code: kerr.TypedErrorForCode(p.ErrorCode)}
			if p.ErrorMessage != nil {
				said.text = *p.ErrorMessage
			}
			a.mu.refused[p.Partition] = said
		}
	}
}

// why words err, by which records of a partition were not acknowledged within timeout: what the broker answered last, and what to do.
func (a *produceAnswers) why(partition int32, timeout time.Duration, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	said, refused := a.mu.refused[partition]
	if !refused && a.mu.throttle > 0 {
		return fmt.Errorf("no acknowledgement within %s: the broker slows producers down, by %s at the last request, as it does when its disk is nearly full; "+
			"free space there, or wait longer with --timeout", timeout, a.mu.throttle)
	}
	if !refused {
		return fmt.Errorf("no acknowledgement within %s, and no refusal: %w; wait longer with --timeout, or look into the broker's log", timeout, err)
	}
	words := said.text
	if words == "" {
		words = strings.TrimSuffix(said.code.Description, ".")
	}
	advice := "wait longer with --timeout, or look into the broker's log"
	if said.code.Code == kerr.KafkaStorageError.Code && said.text == "" { // of a full disk weir says that it is full
		advice = "a log directory of the broker has failed, and the broker's log says which and why"
	} else if said.code.Code == kerr.KafkaStorageError.Code {
		advice = "free space there, for instance with `weir topic delete` or log.disk.used.max.ratio, or wait longer with --timeout"
	}
	return fmt.Errorf("no acknowledgement within %s; the broker's last answer was %s (%s): %s", timeout, said.code.Message, words, advice)
}

const (
	// requestHeadBytes are the kind, version and correlation number of a request.
	requestHeadBytes = 2 + 2 + 4
	// responseBytesMax is the largest produce response that is looked at: it holds hundreds of partitions.
	responseBytesMax = 64 << 10
)

// answeredConn is a connection to a broker that notes the answers to produce requests.
type answeredConn struct {
	net.Conn
	answers   *produceAnswers
	requests  frames // Write's
	responses frames // Read's
	mu        struct {
		sync.Mutex
		sent map[uint32]int16 // the versions of the produce requests that wait for their answers, by correlation number
	}
}

// Write implements net.Conn.
func (c *answeredConn) Write(b []byte) (int, error) {
	c.requests.take(b, func(head []byte) { // before it is sent: the answer may be quick
		if len(head) == requestHeadBytes && int16(binary.BigEndian.Uint16(head)) == int16(kmsg.Produce) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.mu.sent[binary.BigEndian.Uint32(head[4:])] = int16(binary.BigEndian.Uint16(head[2:]))
		}
	})
	return c.Conn.Write(b) // the client closes the connection when not all was written
}

// Read implements net.Conn.
func (c *answeredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.responses.take(b[:n], c.answered)
	return n, err
}

func (c *answeredConn) answered(frame []byte) {
	if len(frame) < 4 {
		return
	}
	correlation := binary.BigEndian.Uint32(frame)
	c.mu.Lock()
	version, ok := c.mu.sent[correlation]
	delete(c.mu.sent, correlation)
	c.mu.Unlock()
	if !ok {
		return
	}
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(version)
	body := frame[4:]
	if resp.IsFlexible() {
		if len(body) == 0 || body[0] != 0 {
			return // tagged fields, of which none is known
		}
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err == nil { // else it was cut off, or the client tells
		c.answers.note(resp)
	}
}

// frames cuts a stream into frames: a length of four bytes, and as many bytes.
type frames struct {
	max    int    // bytes of a frame that are kept
	length []byte // as much of it as has come
	kept   []byte
	left   int // bytes of the frame that have not come
}

// take goes on with the next bytes of the stream and calls done with the first max bytes of each frame that ends in them.
func (f *frames) take(b []byte, done func(frame []byte)) {
	for len(b) > 0 {
		if f.left == 0 {
			n := min(len(b), 4-len(f.length))
			f.length = append(f.length, b[:n]...)
			b = b[n:]
			if len(f.length) == 4 {
				f.left = int(binary.BigEndian.Uint32(f.length))
				f.length, f.kept = f.length[:0], f.kept[:0]
			}
			continue
		}
		n := min(len(b), f.left)
		f.kept = append(f.kept, b[:min(n, f.max-len(f.kept))]...)
		f.left -= n
		b = b[n:]
		if f.left == 0 {
			done(f.kept)
		}
	}
}
