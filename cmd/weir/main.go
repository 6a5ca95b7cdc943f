package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is the release, set at link time with -ldflags "-X main.version=...".
var version = "dev"

// exitError carries an exit status other than 1 up to main. quiet means that the error has been printed already.
type exitError struct {
	status int
	err    error
	quiet  bool
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake in how the command was called: exit status 2.
func usageError(format string, args ...any) error {
	return &exitError{status: 2, err: fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process, whatever it is at
	err := newRootCmd().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled)
	stop()
	if err == nil {
		return
	}
	status := 1
	var exit *exitError
	if errors.As(err, &exit) {
		status = exit.status
	}
	if exit == nil && interrupted {
		err = errors.New("interrupted") // by the signal, whatever it was that a command waited for then
	}
	if exit == nil || !exit.quiet {
		fmt.Fprintln(os.Stderr, "weir:", err)
	}
	os.Exit(status)
}
