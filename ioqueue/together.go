package ioqueue

import "fmt"

// taken is a stream that SyncTogether has taken over, and its files as they were then.
type taken struct {
	stream *Stream
	group  group
	shots  []snapshot
}

// SyncTogether makes what the streams have written durable with one call of sync for all of them. sync must make durable all that was written, cut or
// created in their files before it was called, names included, as vfs.FileSystem.SyncAll does; its error takes the directory offline, as that of an
// fsync does. A stream that a worker has, or that somebody waits for, or whose log writes on, is left out or only partly covered: SyncNow, called for
// each afterwards, does what is left. It must not be called under a lock that OnDurable or OnFileDone takes. Errors: the one that took the directory
// offline, ErrClosed.
//
// This is for a stop, where nobody waits for one record and all of the disk's time is ours. Scheduler says why it is nothing for a group commit.
func (s *Scheduler) SyncTogether(streams []*Stream, sync func() error) error {
	if err := s.stopped(); err != nil {
		return err
	}
	var all []taken
	for _, st := range streams {
		if t, ok := st.take(); ok {
			all = append(all, t)
		}
	}
	err := sync()
	if err != nil {
		s.count.syncErrors.Add(1)
		s.Fail(fmt.Errorf("sync of all files together: %w", err))
		err = s.Err()
	} else {
		s.count.syncs.Add(1)
	}
	for i := range all {
		t := &all[i]
		for j := range t.shots {
			t.stream.endSync(&t.group, &t.shots[j], err)
		}
		t.stream.finishGroup(&t.group, err)
	}
	if err == nil {
		err = s.Err()
	}
	return err
}

// take takes an idle stream over as a worker does, and begins the sync of all of its files.
func (st *Stream) take() (t taken, ok bool) {
	st.mu.Lock()
	if st.mu.state != idle || st.mu.closed || len(st.mu.files) == 0 {
		st.mu.Unlock()
		return t, false
	}
	st.mu.state = running
	st.mu.force = true // the policy does not matter
	t = taken{stream: st, group: st.closeGroupLocked()}
	st.mu.Unlock()
	for _, fs := range t.group.files {
		if shot, ok := st.beginSync(&t.group, fs); ok {
			t.shots = append(t.shots, shot)
		}
	}
	return t, true
}
