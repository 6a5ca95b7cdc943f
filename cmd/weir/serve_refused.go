package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/weirmq/weir/broker"
)

// checkDataDirs refuses directories that are files, or lie below one: that is a slip in the name. To the engine it looks like a disk that has failed,
// and it would advise to look for that.
func checkDataDirs(config *broker.Config) error {
	for _, dir := range broker.SplitList(config.String("log.dirs")) {
		for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil && at != filepath.Dir(at) && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
				continue // what is above it decides
			}
			if err == nil && !info.IsDir() {
				return usageError("data directory %q (--data-dir, log.dirs): %s is a file, not a directory; name a directory, or a path where one can be made", dir, at)
			}
			break // what else is wrong with it shows when it is used
		}
	}
	return nil
}

// listenRefused says what to do about an address that cannot be listened on; any other error is returned as it is.
func listenRefused(err error) error {
	op := (*net.OpError)(nil)
	if !errors.As(err, &op) || op.Op != "listen" || op.Addr == nil {
		return err
	}
	address, flag := op.Addr.String(), "--listen"
	if strings.HasPrefix(err.Error(), "serving metrics") {
		flag = "--metrics"
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listening on %s: address already in use; `ss -ltnp` shows who listens there, %s takes another address", address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listening on %s: this host does not have the address; `ip address` shows those that it has, %s takes another one", address, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listening on %s: not permitted, as it is below port 1024 without CAP_NET_BIND_SERVICE; %s takes another address", address, flag)
	}
	return err
}
