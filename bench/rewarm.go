package bench

import (
	"context"
	"fmt"
	"time"
)

// memory probes how fast memory is touched first and, when it is cold and the series warms memory, touches what the run may fill. The
// probe takes 0.15 s at most. The rate is that of the last probe.
func (s *series) memory(ctx context.Context, spec *Spec) float64 {
	rate := s.probe()
	if s.opts.WarmMemory == 0 || !cold(rate, s.res.Environment.WarmMemoryRate) || s.rewarmLeft <= 0 {
		return rate
	}
	begin := time.Now()
	s.warm(ctx, min(s.opts.WarmMemory, max(rewarmBytesMin, spec.fills())), s.rewarmLeft)
	rate = s.probe()
	s.rewarmLeft -= time.Since(begin)
	return rate
}

// local reports whether a target runs on this host.
func (s *series) local() bool {
	for _, t := range s.res.Targets {
		if t.Local {
			return true
		}
	}
	return false
}

// failed turns the error of a run that gave no result at all into an invalid one, and starts the target anew when it does not answer any
// more: one broker that cannot take a load is no reason to measure nothing else. The error is for a series that cannot go on.
func (s *series) failed(ctx context.Context, t Target, cause error) (*RunResult, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	res := &RunResult{Target: t.Name(), Started: time.Now()}
	res.invalid("target error: %v", cause)
	err := answers(ctx, t)
	if err == nil {
		return res, nil
	}
	if _, ours := t.(*ProcessTarget); !ours {
		return nil, fmt.Errorf("%w; it does not answer any more: %w", cause, err)
	}
	res.note("the target did not answer any more (%v) and was started anew", err)
	_ = t.Stop()
	if err := t.Start(ctx); err != nil {
		return nil, fmt.Errorf("%w; it could not be started anew: %w", cause, err)
	}
	return res, nil
}

// answers asks a target for its metadata.
func answers(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a, err := dialAdmin(ctx, t.Addr())
	if err != nil {
		return err
	}
	defer a.close()
	_, err = a.metadata(ctx, "")
	return err
}
