package ioqueue

import (
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/vfs"
)

const (
	// wholeBatchMax bounds how many streams one whole sync answers, one after the other.
	wholeBatchMax = 4096
	// wholeBytesMax is how many unsynced bytes of all streams together a whole sync may find. Beyond it there are large writes, where
	// the number of fsyncs matters little, or streams under `never` whose bytes nobody waits for.
	wholeBytesMax = 16 << 20
	// wholeWorse is how many times the time of single fsyncs whole syncs may take on average before they are left out for a while.
	wholeWorse = 1.5
	// wholeProbe is after how many whole syncs the cost of a single fsync is measured again.
	wholeProbe = 64
	// wholeRatioMax bounds what one of them counts for: one that met somebody else's burst says little.
	wholeRatioMax = 4
	// wholeRest is that while, in durations of the last of them; it doubles with each in a row.
	wholeRest = 50
	// wholeRestsMax bounds the doubling.
	wholeRestsMax = 6
	// shareSingleMax is how many single fsyncs that belong to no stream run at once; those beyond wait for a whole one.
	shareSingleMax = 3
	// soloParallelMax is how many single fsyncs of streams run at once where no whole sync takes over: more only wait for each other.
	soloParallelMax = 8
)

// OwnSync may be implemented by a file: while it reports true, only the file's own Datasync makes it durable, because
// there is more to do than to sync bytes and names. It must be quick and is called under the stream's lock.
type OwnSync interface {
	// NeedsOwnSync reports it.
	NeedsOwnSync() bool
	// WillSync is called before a sync of the whole file system that stands for the file's own.
	WillSync()
}

func needsOwnSync(f vfs.File) bool {
	o, ok := f.(OwnSync)
	return ok && o.NeedsOwnSync()
}

// wholeState is what the scheduler knows about syncing everything at once.
type wholeState struct {
	whole vfs.Whole // nil: single fsyncs only
	// one is held over a whole sync: of two at once on a descriptor, the kernel tells only one of a failed write-back.
	one sync.Mutex

	mu struct {
		sync.Mutex
		draining bool
		inFlight int           // single fsyncs
		cost     time.Duration // moving average of a single fsync, divided by those in flight; 0 = unknown
		ratio    float64       // moving average of the time of whole syncs by that of as many single ones
		rests    int           // whole syncs were left out as often in a row
		until    time.Time     // no whole sync before
		turn     *turn         // the callers of Share that the next whole sync stands for
	}
}

// turn is a group of Share calls.
type turn struct {
	n    int // guarded by wholeState.mu
	done chan struct{}
	err  error
}

// usable says whether whole syncs pay at the moment.
func (s *Scheduler) wholeUsable() bool {
	w := &s.whole
	if w.whole == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.draining {
		return true
	}
	return s.count.unsynced.Load() <= wholeBytesMax && (w.mu.until.IsZero() || !s.opts.Clock.Now().Before(w.mu.until))
}

// Drain says that the directory is being closed and all of it has to be durable: from now on whole syncs are used wherever several
// fsyncs come together.
func (s *Scheduler) Drain() {
	s.whole.mu.Lock()
	defer s.whole.mu.Unlock()
	s.whole.mu.draining = true
}

// judge compares a whole sync of n files with single fsyncs.
func (s *Scheduler) judge(n int, took time.Duration) {
	w := &s.whole
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.cost == 0 {
		return
	}
	w.mu.ratio += (min(float64(took)/float64(n)/float64(w.mu.cost), wholeRatioMax) - w.mu.ratio) / 8
	if w.mu.ratio <= wholeWorse {
		if w.mu.ratio < 1 {
			w.mu.rests = 0
		}
		return
	}
	w.mu.until = s.opts.Clock.Now().Add(wholeRest * took << w.mu.rests)
	w.mu.rests = min(w.mu.rests+1, wholeRestsMax)
	w.mu.ratio = 1 // two more of that kind will do
}

// single runs one fsync and notes what it cost.
func (s *Scheduler) single(one func() error) error {
	w := &s.whole
	w.mu.Lock()
	w.mu.inFlight++
	n := w.mu.inFlight
	w.mu.Unlock()
	start := s.opts.Clock.Now()
	err := one()
	took := s.opts.Clock.Since(start)
	w.mu.Lock()
	defer w.mu.Unlock()
	// Two at once take little longer than one.
	cost := took / time.Duration(max(n, w.mu.inFlight, 2))
	w.mu.inFlight--
	if w.mu.cost == 0 {
		w.mu.cost = cost
	}
	w.mu.cost += (cost - w.mu.cost) / 8
	return err
}

// syncWhole is the only place that syncs the whole file system; before runs right before it. Its error is final: it may be
// about any file.
func (s *Scheduler) syncWhole(before func()) error {
	s.whole.one.Lock()
	defer s.whole.one.Unlock()
	before()
	if err := s.Err(); err != nil {
		return err
	}
	start := s.opts.Clock.Now()
	if err := s.whole.whole.Sync(); err != nil {
		s.count.syncErrors.Add(1)
		s.Fail(fmt.Errorf("sync of the whole file system: %w", err))
		return s.Err()
	}
	s.count.wholes.Add(1)
	s.count.syncs.Add(1)
	s.count.latency.observe(s.opts.Clock.Since(start).Seconds())
	return nil
}

// Share runs one, an fsync of a file or directory that belongs to no stream, or lets a sync of the whole file system stand for it
// when several are asked for at once. What has to be durable must be written before the call. The error of a whole sync has taken the directory
// offline; that of one has not.
func (s *Scheduler) Share(one func() error) error {
	w := &s.whole
	if !s.wholeUsable() {
		return s.single(one)
	}
	if err := s.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	if w.mu.inFlight < min(s.opts.WholeMin-1, shareSingleMax) {
		w.mu.Unlock()
		return s.single(one)
	}
	t := w.mu.turn
	first := t == nil
	if first {
		t = &turn{done: make(chan struct{})}
		w.mu.turn = t
	}
	t.n++
	w.mu.Unlock()
	if !first {
		<-t.done
		return t.err
	}
	// Whoever comes while another sync runs is still in this turn.
	t.err = s.syncWhole(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.turn = nil
	})
	close(t.done)
	return t.err
}

// member is a stream in a whole sync.
type member struct {
	st    *Stream
	g     group
	shots []snapshot
	rest  []*fileState // files that need a sync of their own, and those after them
}

// joinWhole takes the snapshots of a stream's files.
func (st *Stream) joinWhole() member {
	m := member{st: st, g: st.closeGroup()}
	for i, fs := range m.g.files {
		if needsOwnSync(fs.file) {
			m.rest = m.g.files[i:]
			break
		}
		if shot, ok := st.beginSync(&m.g, fs); ok {
			if o, ok := fs.file.(OwnSync); ok {
				o.WillSync()
			}
			m.shots = append(m.shots, shot)
		}
	}
	return m
}

// runWhole does steps 3 to 6 for many streams with one sync.
func (s *Scheduler) runWhole(worker int, batch []*Stream) {
	start := s.opts.Clock.Now()
	members := make([]member, len(batch))
	files := 0
	for i, st := range batch {
		members[i] = st.joinWhole()
		for _, shot := range members[i].shots {
			if shot.needed {
				files++
			}
		}
	}
	err := s.stopped()
	if err == nil && files > 0 && s.count.wholes.Load()%wholeProbe == 0 {
		err = s.probe(worker, members)
	}
	if err == nil && files > 0 {
		start := s.opts.Clock.Now()
		s.started[worker].Store(start.UnixNano())
		err = s.syncWhole(func() {})
		s.started[worker].Store(0)
		s.judge(files, s.opts.Clock.Since(start))
	}
	var answered int64
	for i := range members {
		m := &members[i]
		merr := err
		for j := range m.shots {
			m.st.endSync(&m.g, &m.shots[j], merr)
		}
		if merr == nil {
			merr = m.st.syncFiles(worker, &m.g, m.rest)
		}
		answered += m.g.appends
		if merr == nil && m.g.appends > 0 {
			s.count.group(m.g.appends, m.g.bytes)
		}
		m.st.finishGroup(&m.g, start, merr)
	}
	s.crowd.answered(answered+s.count.pending.Load(), start, s.opts.Clock.Now())
}

// probe fsyncs one of the files, so that judge knows what a single fsync costs now.
func (s *Scheduler) probe(worker int, members []member) error {
	for i := range members {
		for _, shot := range members[i].shots {
			if shot.needed {
				return s.datasync(worker, shot.fs.file)
			}
		}
	}
	return nil
}

// lead is a worker that syncs everything that is due at once, as long as there is something and it pays.
func (s *Scheduler) lead(worker int) {
	for {
		s.awaitCrowd()
		batch := s.takeAll()
		if batch == nil {
			return
		}
		s.runWhole(worker, batch)
		s.mu.Lock()
		s.mu.running -= len(batch)
		s.mu.Unlock()
	}
}

// takeAll empties the queue, or gives up the lead.
func (s *Scheduler) takeAll() []*Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.mu.ready), wholeBatchMax)
	s.mu.batch += (float64(n) - s.mu.batch) / 4
	if s.mu.batch < float64(s.opts.WholeMin)/2 {
		s.mu.together = false
	}
	if n == 0 || !s.togetherLocked() {
		s.mu.leading = false
		s.mu.wake.Broadcast()
		return nil
	}
	batch := append([]*Stream(nil), s.mu.ready[:n]...)
	clear(s.mu.ready[:n])
	s.mu.ready = s.mu.ready[n:]
	s.mu.running += n
	return batch
}

// crowd is company over all streams; only the leader uses it.
type crowd struct {
	target   int64 // appends that wait for an fsync once everybody is back
	since    time.Time
	duration time.Duration
	found    int64
	patience
}

func (c *crowd) answered(target int64, start, now time.Time) {
	c.target, c.since, c.duration = target, now, now.Sub(start)
}

// awaitCrowd is awaitCompany for the producers of all streams that the last whole sync answered.
func (s *Scheduler) awaitCrowd() {
	c := &s.crowd
	c.found = s.count.pending.Load()
	if s.opts.NoCompany || c.duration == 0 || c.found >= c.target || !c.give() {
		return
	}
	for look := 0; look < companyLooks; look++ {
		if s.count.pending.Load() >= c.target {
			c.gained()
			return
		}
		if s.opts.Clock.Since(c.since) >= companyLimit(c.duration) {
			break
		}
		yield()
	}
	if got := s.count.pending.Load(); got-c.found >= (c.target-c.found)/2 {
		c.gained()
	} else {
		c.lost()
	}
}
