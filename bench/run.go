package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/record"
)

// run is one measured load on one target. Its steps, in Run: topic, connections, fill, warm-up, measurement, drain, checks.
type run struct {
	spec   *Spec
	target Target
	clock  runClock
	id     uint32
	topic  string
	owner  bool // the topic was made here and is deleted at the end
	live   func(Progress)

	admin     *admin
	parts     []partitionInfo
	templates []*template
	stamps    []int // distinct positions of the stamp
	headBytes int   // bytes of a batch that a consumer needs to see
	frames    *produceFrames
	sent      *sentLedger

	base, total int // index of the first producer here, producers of the whole run: other workers have the rest

	producers []sender
	consumers []reader
	ledgers   []*ledger // one per reader
	idle      []*wire
	recs      []*recorder
	cnts      []*counters
	closers   []func()

	alone        bool          // the process has nothing else to do: its runtime may be tuned for the measurement
	quietProcess *quietProcess // in force during the measurement; nil: none
	workerCPUs   int           // cores of the workers' hosts; 0 without workers
	pidList      []int
	pidsKnown    bool

	from, to, stopAt atomic.Int64 // ns on the clock: the measurement, and when senders stop
	drainTo          atomic.Pointer[[]int64]
	unitRecords      int          // records in a batch that is sent, answered and counted as one
	unitBytes        int64        // value bytes of it
	lastCaughtUp     atomic.Int64 // when the last catch-up reader reached its goal, ns
	behind           atomic.Int64 // catch-up readers that have not

	mu struct {
		sync.Mutex
		err    error // first error of a worker
		errors map[string]int64
	}
	tasks sync.WaitGroup
}

// Progress is what a live view shows, once a second and at each step.
type Progress struct {
	Target  string
	Case    string
	Step    string // setup, fill, warm-up, measure, drain
	Elapsed time.Duration
	Total   time.Duration // of the step; 0 when unknown
	Rate    float64       // records acknowledged (or read, without producers) in the last second
	Bytes   float64       // value bytes in the last second
	P99     time.Duration // response time of the last second, 0 when not measured
}

// sender is one producing connection or client of either engine. run sends by the pace until the run's stop time, waits for the
// answers, and may be called again.
type sender interface {
	run(ctx context.Context, pc pace) error
	congestion() string
}

// reader is one consuming connection or client of either engine. run reads until it has drained, or ctx ends, which is no error.
type reader interface {
	run(ctx context.Context) error
	congestion() string
}

// measured reports whether an intended time lies in the measurement.
func (r *run) measured(intended int64) bool {
	return intended >= r.from.Load() && intended < r.to.Load()
}

// noteError counts an error of the target by its text.
func (r *run) noteError(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.errors[err.Error()]++
}

// fail keeps the first error of a worker.
func (r *run) fail(err error) {
	if err == nil {
		return
	}
	r.noteError(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err == nil {
		r.mu.err = err
	}
}

func (r *run) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.err
}

// findStamp looks for a batch's stamp: snappy and lz4 may put it at a few different places.
func (r *run) findStamp(head []byte) (s stamp, ok bool) {
	for _, pos := range r.stamps {
		if s, ok = readStamp(head[pos:]); ok {
			return s, true
		}
	}
	return s, false
}

// Run puts one Spec on one started Target and returns what was measured. The error says that there is no result at all (the
// target cannot be reached, the Spec is impossible); a target that fails in the middle gives a Run that is marked invalid.
func Run(ctx context.Context, target Target, spec Spec, live func(Progress)) (*RunResult, error) {
	return runOn(ctx, target, spec, live, false)
}

// runOn is Run; alone says that the process does nothing else meanwhile.
func runOn(ctx context.Context, target Target, spec Spec, live func(Progress), alone bool) (*RunResult, error) {
	spec.EnsureDefaults()
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	r := newRun(target, &spec, live)
	r.alone = alone
	defer r.cleanup()
	if err := r.setup(ctx); err != nil {
		return nil, fmt.Errorf("target %s: %w", target.Name(), err)
	}
	return r.execute(ctx)
}

// newRun is a run whose measurement has not been set.
func newRun(target Target, spec *Spec, live func(Progress)) *run {
	if live == nil {
		live = func(Progress) {}
	}
	r := &run{spec: spec, target: target, clock: newRunClock(), id: rand.Uint32(), live: live}
	r.topic = fmt.Sprintf("bench-%08x", r.id)
	r.mu.errors = map[string]int64{}
	r.from.Store(math.MaxInt64)
	r.to.Store(math.MaxInt64)
	r.stopAt.Store(math.MaxInt64)
	r.unitRecords, r.unitBytes = spec.Records, spec.BatchValueBytes()
	if spec.Engine == "kgo" { // the client makes the batches
		r.unitRecords, r.unitBytes = 1, int64(spec.ValueBytes)
	}
	return r
}

// caughtUp notes that a catch-up reader reached its goal.
func (r *run) caughtUp(now int64) {
	r.lastCaughtUp.Store(now)
	r.behind.Add(-1)
}

// ackedEnds are the end offsets that the acknowledged records give each partition.
func (r *run) ackedEnds() []int64 {
	ends := make([]int64, len(r.parts))
	for p := range ends {
		ends[p] = int64(r.sent.acked(int32(p))) * int64(r.unitRecords)
	}
	return ends
}

func (r *run) setup(ctx context.Context) (err error) {
	r.live(Progress{Target: r.target.Name(), Case: r.spec.Case, Step: "setup"})
	if r.admin, err = dialAdmin(ctx, r.target.Addr()); err != nil {
		return err
	}
	r.closers = append(r.closers, r.admin.close)
	if r.parts, err = r.admin.createTopic(ctx, r.topic, r.spec); err != nil {
		return err
	}
	r.owner = true
	r.total = r.producerCount()
	return r.connect(ctx)
}

// producerCount is the number of producer connections: two for a fill without producers.
func (r *run) producerCount() int {
	if r.spec.Conns == 0 && r.spec.FillBytes > 0 {
		return 2
	}
	return r.spec.Conns
}

// connect builds the templates and opens every connection; the topic exists.
func (r *run) connect(ctx context.Context) (err error) {
	if r.templates, err = newTemplates(r.spec); err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, t := range r.templates {
		r.headBytes = max(r.headBytes, t.head(), record.HeaderBytes)
		if !seen[t.stampPos] {
			seen[t.stampPos] = true
			r.stamps = append(r.stamps, t.stampPos)
		}
	}
	r.frames = newProduceFrames(r.topic, r.spec.Acks, r.templates)
	dialProducers, dialReader := r.dialProducers, r.dialReader
	if r.spec.Engine == "kgo" {
		dialProducers, dialReader = r.openProducers, r.openReader
	}
	if err := dialProducers(ctx); err != nil {
		return err
	}
	for i := 0; i < r.spec.Consumers; i++ {
		if err := dialReader(ctx, fmt.Sprintf("consumer %d", i), nil); err != nil {
			return err
		}
	}
	return r.dialIdle(ctx)
}

// leaders groups the partitions by the broker that leads them.
func (r *run) leaders() (addrs []string, parts map[string][]int32) {
	parts = map[string][]int32{}
	for i, p := range r.parts {
		if parts[p.leader] == nil {
			addrs = append(addrs, p.leader)
		}
		parts[p.leader] = append(parts[p.leader], int32(i))
	}
	return addrs, parts
}

// worker allots counters and a recorder; recorders are shared by up to 64 shards so that thousands of connections fit.
func (r *run) worker() (*recorder, *counters) {
	cnt := &counters{}
	r.cnts = append(r.cnts, cnt)
	const shards = 64
	if len(r.recs) < shards {
		r.recs = append(r.recs, &recorder{})
		return r.recs[len(r.recs)-1], cnt
	}
	return r.recs[len(r.cnts)%shards], cnt
}

// dialProducers opens the producer connections and shares the partitions out among them.
func (r *run) dialProducers(ctx context.Context) error {
	r.sent = newSentLedger(r.total, len(r.parts))
	addrs, byLeader := r.leaders()
	for i := r.base; i < r.base+r.producerCount(); i++ {
		addr := addrs[i%len(addrs)]
		j, of := i/len(addrs), (r.total+len(addrs)-1-i%len(addrs))/len(addrs)
		p := &producer{r: r, index: i, addr: addr}
		p.rec, p.cnt = r.worker()
		for k, id := range byLeader[addr] {
			if len(byLeader[addr]) <= of && k == j%len(byLeader[addr]) || len(byLeader[addr]) > of && k%of == j {
				p.partitions = append(p.partitions, id)
			}
		}
		w, err := dial(ctx, addr, dialOptions{congestion: r.spec.Congestion})
		if err != nil {
			return err
		}
		p.w = w
		r.closers = append(r.closers, w.close)
		r.producers = append(r.producers, p)
	}
	return nil
}

// dialReader opens the connections of one reader, one per broker, with one ledger. goal is for catch-up readers, else nil.
func (r *run) dialReader(ctx context.Context, name string, goal []int64) error {
	addrs, byLeader := r.leaders()
	for _, addr := range addrs {
		w, err := dial(ctx, addr, dialOptions{congestion: r.spec.Congestion})
		if err != nil {
			return err
		}
		r.closers = append(r.closers, w.close)
		led := newLedger(r.id, len(r.parts), r.total)
		r.ledgers = append(r.ledgers, led)
		c := &consumer{r: r, name: name, addr: addr, goal: goal, led: led, w: w,
			in: newStreamReader(w, r.spec.Verify == VerifyOffsets)}
		c.rec, c.cnt = r.worker()
		for _, id := range byLeader[addr] {
			c.parts = append(c.parts, fetchPartition{id: id})
		}
		led.only = byLeader[addr]
		r.consumers = append(r.consumers, c)
	}
	return nil
}

func (r *run) dialIdle(ctx context.Context) error {
	for i := 0; i < r.spec.IdleConns; i++ {
		w, err := dial(ctx, r.target.Addr(), dialOptions{})
		if err != nil {
			return fmt.Errorf("idle connection %d of %d: %w", i+1, r.spec.IdleConns, err)
		}
		r.idle = append(r.idle, w)
		r.closers = append(r.closers, w.close)
	}
	return nil
}

// cleanup closes connections and deletes the topic. It runs after every worker has ended.
func (r *run) cleanup() {
	if r.owner {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		_ = r.admin.deleteTopic(ctx, r.topic) // the topic's name is never used again; the target may be gone
		cancel()
	}
	for _, c := range r.closers {
		c()
	}
}

// startReaders starts the consumers from index from on.
func (r *run) startReaders(ctx context.Context, from int) {
	for _, c := range r.consumers[from:] {
		r.tasks.Add(1)
		go func() {
			defer r.tasks.Done()
			r.fail(c.run(ctx))
		}()
	}
}

// produceAll runs every producer with the pace that paceOf gives it and waits for the answers.
func (r *run) produceAll(ctx context.Context, paceOf func(i int) pace) {
	var wg sync.WaitGroup
	for i, p := range r.producers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r.fail(p.run(ctx, paceOf(i)))
		}()
	}
	wg.Wait()
}

// fill writes FillBytes at full speed.
func (r *run) fill(ctx context.Context) {
	if r.spec.FillBytes <= 0 {
		return
	}
	var quota atomic.Int64
	quota.Store((r.spec.FillBytes + r.unitBytes - 1) / r.unitBytes)
	r.produceAll(ctx, func(int) pace { return pace{quota: &quota} })
}

// dropCaches empties the host's page cache, for readers that shall find cold data.
func dropCaches() error {
	syncDisks()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0); err != nil {
		return fmt.Errorf("drop_caches: %w", err)
	}
	return nil
}

// drain waits until the readers have everything that was acknowledged, and checks the end offsets.
func (r *run) drain(ctx context.Context, truth *Truth) {
	ctx, cancel := context.WithTimeout(ctx, r.spec.Drain)
	defer cancel()
	ends := r.ackedEnds()
	r.drainTo.Store(&ends)
	if err := r.checkEnds(ctx, ends, truth); err != nil && ctx.Err() == nil {
		r.noteError(err)
	}
}

// checkEnds compares the target's end offsets with the acknowledged records; with acks=0 it waits for them, since nothing
// says when the target has taken what the sockets held.
func (r *run) checkEnds(ctx context.Context, want []int64, truth *Truth) error {
	addrs, byLeader := r.leaders()
	for _, addr := range addrs {
		missing, err := r.waitForEnds(ctx, addr, byLeader[addr], want)
		switch {
		case missing != "" && (err == nil || ctx.Err() != nil):
			truth.fault(&truth.EndOffset, "%s", missing)
			return nil
		case err != nil:
			return err
		}
	}
	return nil
}

// waitForEnds asks a broker for its end offsets until they are those that were acknowledged or the time is up, which may be in the middle
// of a question: what the last answer lacked comes with its error then.
func (r *run) waitForEnds(ctx context.Context, addr string, partitions []int32, want []int64) (missing string, err error) {
	a, err := dialAdmin(ctx, addr)
	if err != nil {
		return "", err
	}
	defer a.close()
	for {
		got, err := a.endOffsets(ctx, r.topic, partitions)
		if err != nil {
			return missing, err
		}
		missing = ""
		for p, end := range got {
			if end < want[p] {
				missing = fmt.Sprintf("partition %d ends at offset %d, acknowledged were %d records", p, end, want[p])
			}
		}
		if missing == "" {
			return "", nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return missing, nil
		}
	}
}
