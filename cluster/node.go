package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Node is this broker's part of the metadata quorum.
//
// One loop owns raft. A turn of it: take what has been proposed, hand each payload to raft, then do what raft says until it
// has nothing left to say: write the hard state, append the new entries and wait until they are durable, apply those that are
// committed, publish the image once, call the listeners, and only then the proposers. Proposals that come meanwhile wait in the
// queue and make the next group, so that the slower the disk, the larger the groups. Invariants:
//
//   - An image is published only with entries that are durable: nobody sees a change that a power cut could take back.
//   - Entries are applied in the order of the log, and a proposer's result comes from that application.
//   - After a failed write or fsync nothing more is written: the node reads on, and refuses changes, until a restart.
//     A full disk is no failure: the group that found it is refused, and raft starts again from what is durable.
//
// The simpler design, one fsync per proposal, takes 10,000 fsyncs for 10,000 topics instead of some dozens.
type Node struct {
	opts      Options
	clusterID string // of the store
	image     atomic.Pointer[Image]
	lead      atomic.Bool
	err       atomic.Pointer[error]

	queue     *proposalQueue
	stop      chan struct{}
	stopOnce  sync.Once
	ended     chan struct{}
	snapshots chan snapshotDone

	listeners struct {
		sync.Mutex
		list []func(Change)
	}

	loop loopState
}

// loopState belongs to the loop, and before that to Start.
type loopState struct {
	dir      string // of the snapshots and the hard state
	log      entryLog
	raft     *raft.RawNode
	storage  raftStorage
	proposed []*proposal // handed to raft, in order; they have no index yet
	indexed  []*proposal // have an index, in its order; wait to be applied

	bytes        int64 // appended since the last snapshot began
	snapshotting bool
}

// Start recovers the image from the store, or formats an empty one, and returns when this node leads and the image is
// complete. A store whose metadata is corrupt, incomplete or another cluster's is refused with ErrCorrupt, ErrMissing or
// ErrForeign, and nothing is changed on disk then.
func Start(opts Options) (*Node, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	log, err := openEngineLog(opts.Store, opts.Clock)
	if err != nil {
		return nil, err
	}
	return start(opts, opts.Store.ClusterID(), log)
}

func start(opts Options, clusterID string, log entryLog) (*Node, error) {
	n := &Node{
		opts:      opts,
		clusterID: clusterID,
		queue:     newProposalQueue(opts.QueueMax),
		stop:      make(chan struct{}),
		ended:     make(chan struct{}),
		snapshots: make(chan snapshotDone, 1),
	}
	n.loop.log = log
	n.loop.dir = filepath.Join(opts.Dir, folderName)
	if err := n.recover(); err != nil {
		return nil, err
	}
	if err := n.checkIdentity(); err != nil {
		return nil, err
	}
	if err := n.campaign(); err != nil {
		return nil, err
	}
	go n.run()
	return n, nil
}

// Image returns the image in force. It costs one atomic load.
func (n *Node) Image() *Image { return n.image.Load() }

// NodeID returns this broker's id.
func (n *Node) NodeID() int32 { return n.opts.NodeID }

// IsLeader reports whether this node leads the metadata quorum.
func (n *Node) IsLeader() bool { return n.lead.Load() }

// Err returns why the node can change nothing any more, wrapping ErrFailed, or nil.
func (n *Node) Err() error {
	if err := n.err.Load(); err != nil {
		return *err
	}
	return nil
}

// OnChange registers fn to be called after each new image, in order, on the node's loop: it must be short, and must neither wait
// for a proposal nor stop the node. A proposer gets its result after fn has returned.
func (n *Node) OnChange(fn func(Change)) {
	n.listeners.Lock()
	defer n.listeners.Unlock()
	n.listeners.list = append(n.listeners.list[:len(n.listeners.list):len(n.listeners.list)], fn)
}

// Propose puts the records into one entry of the log and returns one result for each when it is durable and applied. Each record
// is accepted or refused by itself. Any number of callers may propose at once; they share fsyncs. When ctx ends first, its error
// is returned and whether the change is made is unknown. The other errors are those of Submit.
func (n *Node) Propose(ctx context.Context, records []Record) ([]Result, error) {
	return await(ctx, func(done func([]Result, error)) { n.Submit(records, done) })
}

// await submits a change and waits for its outcome, or for ctx.
func await[T any](ctx context.Context, submit func(done func(T, error))) (T, error) {
	type outcome struct {
		results T
		err     error
	}
	ch := make(chan outcome, 1)
	submit(func(results T, err error) { ch <- outcome{results, err} })
	select {
	case o := <-ch:
		return o.results, o.err
	case <-ctx.Done():
		var none T
		return none, waitError(ctx)
	}
}

// Submit is Propose without waiting: done is called once, on the node's loop or before Submit returns, and must be short. Errors:
// ErrStopped, ErrFailed, ErrNotLeader, ErrBusy, ErrNoSpace, and for records that pass a limit of the format ErrLimit and its like.
func (n *Node) Submit(records []Record, done func([]Result, error)) {
	p, err := newProposal(records, done)
	if err == nil {
		err = n.queue.put(p)
	}
	if err != nil {
		done(nil, err)
	}
}

func newProposal(records []Record, done func([]Result, error)) (*proposal, error) {
	if len(records) == 0 || len(records) > entryRecordsMax {
		return nil, fmt.Errorf("%w: %d records in one proposal, 1 to %d", ErrLimit, len(records), entryRecordsMax)
	}
	partitions := 0
	for _, r := range records {
		if err := checkLimits(r); err != nil {
			return nil, err
		}
		partitions += addedPartitions(r)
	}
	data := appendRecords(nil, records)
	if partitions > partitionsMax || len(data) > entryBytesMax {
		return nil, fmt.Errorf("%w: a proposal of %d partitions and %d bytes, at most %d and %d",
			ErrLimit, partitions, len(data), partitionsMax, entryBytesMax)
	}
	return &proposal{data: data, count: len(records), partitions: partitions, done: done}, nil
}

// Stop ends the node: proposals that wait fail with ErrStopped. It returns when the loop has ended and no file is in use. The
// store stays open. Stop may be called more than once.
func (n *Node) Stop() {
	n.stopOnce.Do(func() { close(n.stop) })
	<-n.ended
}

// run is the loop.
func (n *Node) run() {
	defer close(n.ended)
	for {
		select {
		case <-n.queue.wake:
			n.step(n.queue.take())
		case done := <-n.snapshots:
			n.snapshotEnded(done)
		case <-n.stop:
			n.shutDown()
			return
		}
	}
}

// step runs one turn for a group of proposals and settles what an error means.
func (n *Node) step(group []*proposal) {
	if err := n.Err(); err != nil {
		failAll(group, err)
		return
	}
	err := error(nil)
	if n.loop.raft == nil { // the disk was full
		err = n.elect()
	}
	if err == nil {
		err = n.turn(group)
	} else {
		failAll(group, err)
	}
	if err != nil && !errors.Is(err, ErrNoSpace) {
		n.fail(err)
		return
	}
	n.maybeSnapshot()
}

// turn proposes the group and does all that raft then asks for. On an error every proposal in flight has failed.
func (n *Node) turn(group []*proposal) error {
	l := &n.loop
	partitions := n.Image().PartitionCount()
	for _, p := range group {
		if err := n.roomFor(partitions, p.partitions); err != nil && p.partitions > 0 {
			p.refuse(err)
			continue
		}
		if err := l.raft.Propose(p.data); err != nil {
			p.done(nil, fmt.Errorf("%w: %w", ErrNotLeader, err))
			continue
		}
		partitions += p.partitions
		l.proposed = append(l.proposed, p)
	}
	for l.raft.HasReady() {
		ready := l.raft.Ready()
		err := n.persist(ready)
		if err == nil {
			err = n.apply(ready.CommittedEntries)
		}
		if err != nil {
			if !errors.Is(err, ErrNoSpace) && !errors.Is(err, ErrFailed) {
				err = fmt.Errorf("%w: %w", ErrFailed, err)
			}
			n.abandon(err)
			return err
		}
		l.raft.Advance(ready)
		l.storage.drop(n.Image().index)
		if ready.SoftState != nil {
			n.lead.Store(ready.SoftState.RaftState == raft.StateLeader)
		}
	}
	return nil
}

// abandon fails every proposal in flight and forgets raft's state in memory, which is ahead of the disk's.
func (n *Node) abandon(err error) {
	l := &n.loop
	failAll(l.indexed, err)
	failAll(l.proposed, err)
	l.indexed, l.proposed, l.raft = nil, nil, nil
	n.lead.Store(false)
}

func failAll(proposals []*proposal, err error) {
	for _, p := range proposals {
		p.done(nil, err)
	}
}

// fail makes err the reason why nothing will be changed any more.
func (n *Node) fail(err error) {
	n.err.Store(&err)
	n.lead.Store(false)
	n.opts.Logger.Error("metadata can no longer be changed: restart the broker when the cause is gone", "error", err)
	failAll(n.queue.close(err), err)
}

// elect makes raft begin from what is durable and stand for election, which a single voter wins at once.
func (n *Node) elect() error {
	l := &n.loop
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        raftID(n.opts.NodeID),
		ElectionTick:              10,
		HeartbeatTick:             1,
		Storage:                   &l.storage,
		Applied:                   l.storage.index,
		MaxSizePerMsg:             math.MaxUint64,
		MaxInflightMsgs:           256,
		DisableProposalForwarding: true,
		Logger:                    raftLogger{n.opts.Logger},
	})
	if err == nil {
		err = node.Campaign()
	}
	if err != nil {
		return fmt.Errorf("%w: start raft: %w", ErrFailed, err)
	}
	l.raft = node
	return n.turn(nil)
}

// raftID is the voter's id: raft has no 0.
func raftID(nodeID int32) uint64 { return uint64(nodeID) + 1 }

// persist makes the hard state and the entries durable, in this order: a node that leads a term has written that it does.
func (n *Node) persist(ready raft.Ready) error {
	l := &n.loop
	if h := ready.HardState; h != nil && (h.GetTerm() != l.storage.hard.term || h.GetVote() != l.storage.hard.vote) {
		next := hardState{term: h.GetTerm(), vote: h.GetVote(), commit: n.Image().index}
		if err := n.writeHardState(next); err != nil {
			return err
		}
	}
	if len(ready.Entries) == 0 {
		return nil
	}
	bytes, err := l.log.append(ready.Entries)
	if err != nil {
		return err
	}
	l.bytes += bytes
	l.storage.add(ready.Entries)
	for _, e := range ready.Entries {
		// A leader's new entries are its own empty one and what it proposed, in order: nobody else makes any.
		if len(e.Data) == 0 || len(l.proposed) == 0 {
			continue
		}
		p := l.proposed[0]
		l.proposed = l.proposed[1:]
		p.index = e.GetIndex()
		l.indexed = append(l.indexed, p)
	}
	return nil
}

// apply applies committed entries, publishes the image and tells listeners and proposers.
func (n *Node) apply(entries []*raftpb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	change := Change{Old: n.Image()}
	img := change.Old
	var settled []func()
	for _, e := range entries {
		records, err := entryPayload(e)
		if err != nil {
			return err
		}
		results := make([]Result, len(records))
		for i, r := range records {
			img, results[i] = Apply(img, r)
			change.note(r, results[i])
		}
		img = img.at(e.GetIndex(), e.GetTerm())
		if p := n.settles(e.GetIndex()); p != nil {
			settled = append(settled, func() { p.done(results, nil) })
		}
	}
	change.New = img
	n.image.Store(img)
	n.listeners.Lock()
	listeners := n.listeners.list
	n.listeners.Unlock()
	for _, fn := range listeners {
		fn(change)
	}
	for _, done := range settled {
		done()
	}
	return nil
}

// settles takes the proposal whose entry has this index, if one waits here.
func (n *Node) settles(index uint64) *proposal {
	l := &n.loop
	if len(l.indexed) == 0 || l.indexed[0].index != index {
		return nil
	}
	p := l.indexed[0]
	l.indexed = l.indexed[1:]
	return p
}

// entryPayload decodes an entry; a leader's empty entry has no records.
func entryPayload(e *raftpb.Entry) ([]Record, error) {
	if len(e.Data) == 0 {
		return nil, nil
	}
	records, err := decodeRecords(e.Data)
	if c, ok := err.(*CorruptError); ok {
		c.Index, c.Reason, c.Pos = e.GetIndex(), fmt.Sprintf("byte %d of the entry: %s", c.Pos, c.Reason), -1
	}
	return records, err
}

// waitError is the error of a proposer whose context ended first.
func waitError(ctx context.Context) error {
	return fmt.Errorf("cluster: the wait for a change ended, it may yet be made: %w", context.Cause(ctx))
}
