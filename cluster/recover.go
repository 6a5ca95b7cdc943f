package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"go.etcd.io/raft/v3/raftpb"
)

// folderName is the folder beside the partitions that holds snapshots and hard state. It has no "-<number>" at its end, so it is
// no partition's.
const folderName = "__cluster_metadata"

// recover loads hard state, snapshot and log, in this order, and decides:
//
//	hard state  snapshot  log                       decision
//	none        none      empty, no partitions      a new cluster: format
//	none        none      empty, but partitions     ErrMissing: the metadata was lost, the data must not be orphaned
//	none        any       not empty                 ErrMissing: the hard state is written before the first entry
//	none        some      empty                     ErrMissing
//	bad         -         -                         ErrCorrupt
//	some        bad       -                         ErrCorrupt
//	some        any       bad                       ErrCorrupt
//	some        any       begins after snapshot+1   ErrMissing: entries between them are gone
//	some        any       ends before snapshot      ErrMissing
//	some        any       ends before hard commit   ErrMissing: entries that had been acknowledged are gone
//	some        any       has terms above its own   ErrCorrupt
//	some        any       fits                      go on
func (n *Node) recover() error {
	l, o := &n.loop, &n.opts
	hard, found, err := readHardState(o.FS, l.dir)
	if err != nil {
		return err
	}
	snap, err := readSnapshot(o.FS, l.dir)
	if err != nil {
		return err
	}
	first, end := l.log.first(), l.log.end()
	if !found {
		return n.formatOrRefuse(snap != nil || end > 1)
	}
	img, voters := newImage(), []uint64{raftID(o.NodeID)}
	snapPath := "no snapshot in " + l.dir
	if snap != nil {
		img, voters, snapPath = snap.image, snap.voters, snap.path
	}
	if len(voters) != 1 || voters[0] != raftID(o.NodeID) {
		return fmt.Errorf("%w: %s: its voters are %v, this node is %d", ErrForeign, snapPath, voters, raftID(o.NodeID))
	}
	if path, _ := l.log.locate(first); first > img.index+1 {
		return fmt.Errorf("%w: %s begins with entry %d, the snapshot ends with entry %d (%s)", ErrMissing, path, first, img.index, snapPath)
	}
	if last := max(img.index, hard.commit); end <= last {
		path, _ := l.log.locate(max(end, 2) - 1)
		return fmt.Errorf("%w: %s ends with entry %d, but entries to %d were committed (%s, %s)", ErrMissing, path, end-1, last,
			filepath.Join(l.dir, hardStateFile), snapPath)
	}
	l.storage = raftStorage{hard: hard, voters: voters, index: img.index, term: img.term}
	n.image.Store(img)
	entries, err := l.log.load(img.index + 1)
	if err != nil {
		return err
	}
	return n.adopt(entries)
}

// adopt applies the log's entries after the snapshot. A single voter is a majority, so what is durable here is committed, and the
// image is whole before raft runs: a full disk stops changes, not the start.
func (n *Node) adopt(entries []*raftpb.Entry) error {
	l := &n.loop
	term := l.storage.term
	for i, e := range entries {
		bad := func(format string, args ...any) error {
			return n.inLog(&CorruptError{Index: e.GetIndex(), Reason: fmt.Sprintf(format, args...)})
		}
		if want := l.storage.index + 1 + uint64(i); e.GetIndex() != want {
			return bad("it is in the place of entry %d", want)
		}
		if e.GetTerm() < term || e.GetTerm() > l.storage.hard.term {
			return bad("its term is %d, the entry before has %d, the hard state %d", e.GetTerm(), term, l.storage.hard.term)
		}
		term = e.GetTerm()
		l.bytes += int64(len(e.Data))
	}
	if len(entries) == 0 {
		return nil
	}
	l.storage.add(entries)
	if err := n.apply(entries); err != nil {
		return n.inLog(err)
	}
	l.storage.drop(n.Image().index)
	return nil
}

// inLog names the file and the position of the entry that a CorruptError is about.
func (n *Node) inLog(err error) error {
	if c, ok := err.(*CorruptError); ok && c.Path == "" {
		c.Path, c.Pos = n.loop.log.locate(c.Index)
	}
	return err
}

// formatOrRefuse begins a new cluster, if there is nothing that says that there was one.
func (n *Node) formatOrRefuse(metadata bool) error {
	l, o := &n.loop, &n.opts
	if metadata {
		return fmt.Errorf("%w: %s/%s is not there, but metadata is", ErrMissing, l.dir, hardStateFile)
	}
	if partition := l.log.otherPartition(); partition != "" {
		return fmt.Errorf("%w: the log directories hold partitions (%s), but no metadata", ErrMissing, partition)
	}
	if err := o.FS.MkdirAll(l.dir); err != nil {
		return fmt.Errorf("cluster: make %s: %w", l.dir, err)
	}
	if err := o.FS.SyncDir(o.Dir); err != nil {
		return fmt.Errorf("cluster: sync %s: %w", o.Dir, err)
	}
	l.storage = raftStorage{voters: []uint64{raftID(o.NodeID)}}
	n.image.Store(newImage())
	return nil
}

// checkIdentity holds the image's cluster against the store's.
func (n *Node) checkIdentity() error {
	have, want := n.Image().ClusterID(), n.clusterID
	if have != "" && have != want {
		return fmt.Errorf("%w: %s: the metadata is of cluster %q, the file says %q", ErrForeign, filepath.Join(n.opts.Dir, "meta.properties"), have, want)
	}
	return nil
}

// campaign makes this node the leader and, of a new cluster, writes its id. With a full disk the node starts without a leader,
// unless the cluster is new.
func (n *Node) campaign() error {
	err := n.elect()
	named := n.Image().ClusterID() != ""
	if named && errors.Is(err, ErrNoSpace) {
		n.opts.Logger.Error("metadata can be read but not changed until there is space", "error", err)
		return nil
	}
	if err != nil || named {
		return err
	}
	var refused error
	p, err := newProposal([]Record{&ClusterRecord{ID: n.clusterID}}, func(results []Result, err error) {
		if err == nil {
			refused = results[0].Err
		}
	})
	if err == nil {
		err = n.turn([]*proposal{p})
	}
	return errors.Join(err, refused)
}

// writeHardState makes h durable and what raft sees. A full disk is ErrNoSpace.
func (n *Node) writeHardState(h hardState) error {
	if err := writeHardState(n.opts.FS, n.loop.dir, h); err != nil {
		reason := ErrFailed
		if errors.Is(err, syscall.ENOSPC) {
			reason = ErrNoSpace
		}
		return fmt.Errorf("%w: write %s/%s: %w", reason, n.loop.dir, hardStateFile, err)
	}
	n.loop.storage.hard = h
	return nil
}

// snapshotDone is what the goroutine that writes a snapshot tells the loop.
type snapshotDone struct {
	index uint64
	err   error
}

// maybeSnapshot starts a snapshot when the log has grown enough since the last one.
func (n *Node) maybeSnapshot() {
	l := &n.loop
	if l.snapshotting || l.bytes < n.opts.SnapshotBytes {
		return
	}
	l.snapshotting, l.bytes = true, 0
	s := snapshot{image: n.Image(), voters: l.storage.voters}
	go func() { n.snapshots <- snapshotDone{s.image.index, n.snapshot(s)} }()
}

// snapshot writes s, then frees what it replaces: first the new file is durable, then the log is trimmed, then the older files go.
func (n *Node) snapshot(s snapshot) error {
	name, err := writeSnapshot(n.opts.FS, n.loop.dir, s)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := n.loop.log.trim(s.image.index + 1); err != nil {
		return fmt.Errorf("trim the log to entry %d: %w", s.image.index, err)
	}
	return removeSnapshots(n.opts.FS, n.loop.dir, name)
}

// snapshotEnded settles a snapshot. One that failed changes nothing but the space that is used; the next one tries again.
func (n *Node) snapshotEnded(done snapshotDone) {
	n.loop.snapshotting = false
	if done.err != nil {
		n.opts.Logger.Error("metadata snapshot failed", "index", done.index, "error", done.err)
		return
	}
	n.opts.Logger.Debug("metadata snapshot", "index", done.index)
	n.maybeSnapshot() // the log may have grown as much again
}

// shutDown ends the loop.
func (n *Node) shutDown() {
	l := &n.loop
	failAll(n.queue.close(ErrStopped), ErrStopped)
	for l.snapshotting {
		l.bytes = 0 // no other one
		n.snapshotEnded(<-n.snapshots)
	}
	if n.Err() == nil && n.Image().index > l.storage.hard.commit {
		h := l.storage.hard
		h.commit = n.Image().index
		if err := n.writeHardState(h); err != nil {
			n.opts.Logger.Warn("quorum-state keeps an older commit index", "error", err)
		}
	}
	n.lead.Store(false)
}
