package cluster

import (
	"fmt"
	"log/slog"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// raftStorage is what raft sees of the durable state: the entries that are not applied yet, and the index and term before them.
// Applied entries are dropped at once, whatever the log on disk still holds: with one voter nobody else asks for them.
// Owned by the node's loop.
type raftStorage struct {
	hard    hardState
	voters  []uint64
	index   uint64 // of the last entry that was dropped
	term    uint64 // its term
	entries []*raftpb.Entry
}

func (s *raftStorage) lastIndex() uint64 { return s.index + uint64(len(s.entries)) }

// add records entries that are durable, in place of those at or above the first one's index.
func (s *raftStorage) add(entries []*raftpb.Entry) {
	keep := entries[0].GetIndex() - s.index - 1
	s.entries = append(s.entries[:keep:keep], entries...)
}

// drop forgets the entries up to index, which are applied.
func (s *raftStorage) drop(index uint64) {
	if index <= s.index {
		return
	}
	n := index - s.index
	s.term = s.entries[n-1].GetTerm()
	s.index = index
	s.entries = s.entries[n:]
	if len(s.entries) == 0 {
		s.entries = nil
	}
}

// InitialState implements raft.Storage.
func (s *raftStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	conf := &raftpb.ConfState{Voters: s.voters}
	if s.hard == (hardState{}) {
		return nil, conf, nil
	}
	commit := max(s.hard.commit, s.index)
	return &raftpb.HardState{Term: new(s.hard.term), Vote: new(s.hard.vote), Commit: new(commit)}, conf, nil
}

// Entries implements raft.Storage.
func (s *raftStorage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= s.index {
		return nil, raft.ErrCompacted
	}
	if hi > s.lastIndex()+1 {
		return nil, raft.ErrUnavailable
	}
	entries := s.entries[lo-s.index-1 : hi-s.index-1]
	var size uint64
	for i, e := range entries {
		size += uint64(len(e.Data))
		if i > 0 && size > maxSize {
			entries = entries[:i]
			break
		}
	}
	return entries[:len(entries):len(entries)], nil
}

// Term implements raft.Storage.
func (s *raftStorage) Term(i uint64) (uint64, error) {
	switch {
	case i < s.index:
		return 0, raft.ErrCompacted
	case i == s.index:
		return s.term, nil
	case i > s.lastIndex():
		return 0, raft.ErrUnavailable
	default:
		return s.entries[i-s.index-1].GetTerm(), nil
	}
}

// LastIndex implements raft.Storage.
func (s *raftStorage) LastIndex() (uint64, error) { return s.lastIndex(), nil }

// FirstIndex implements raft.Storage.
func (s *raftStorage) FirstIndex() (uint64, error) { return s.index + 1, nil }

// Snapshot implements raft.Storage. Only a leader with followers asks.
func (s *raftStorage) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// raftLogger puts raft's log lines into ours, one level lower: they tell its steps.
type raftLogger struct{ logger *slog.Logger }

// Debug implements raft.Logger, as do the others.
func (l raftLogger) Debug(v ...any) { l.logger.Debug("raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Debugf(format string, v ...any) {
	l.logger.Debug("raft: " + fmt.Sprintf(format, v...))
}
func (l raftLogger) Info(v ...any)                 { l.Debug(v...) }
func (l raftLogger) Infof(format string, v ...any) { l.Debugf(format, v...) }
func (l raftLogger) Warning(v ...any)              { l.logger.Warn("raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Warningf(format string, v ...any) {
	l.logger.Warn("raft: " + fmt.Sprintf(format, v...))
}
func (l raftLogger) Error(v ...any) { l.logger.Error("raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Errorf(format string, v ...any) {
	l.logger.Error("raft: " + fmt.Sprintf(format, v...))
}

// Fatal and the ones below are called when the caller broke raft's contract; what came from disk was checked before.
func (l raftLogger) Fatal(v ...any)                 { panic("BUG: raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any) { panic("BUG: raft: " + fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                 { panic("BUG: raft: " + fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any) { panic("BUG: raft: " + fmt.Sprintf(format, v...)) }
