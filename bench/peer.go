package bench

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// peerKafkaVersion is the Apache Kafka that the peer's pom names.
const peerKafkaVersion = "4.3.1"

// NewPeer installs a peer broker when needed and returns it as a target. Known: "kafka", which is Apache Kafka from Maven's
// public repository, kept under $WEIR_CACHE or ~/.cache/weir. It needs java and mvn on the path. files holds a
// folder of scripts per peer, log receives the installer's output. The peer makes its directory in parent, "" being the system's temporary
// directory.
func NewPeer(ctx context.Context, name, parent string, files fs.FS, log io.Writer) (Target, error) {
	if name != "kafka" {
		return nil, fmt.Errorf("--peer %q: the only peer known is kafka", name)
	}
	for _, tool := range []string{"java", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("--peer kafka needs %s on the path: %w", tool, err)
		}
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	scripts := filepath.Join(cache, "kafka-scripts")
	if err := writePeerScripts(files, name, scripts); err != nil {
		return nil, err
	}
	script := filepath.Join(scripts, "kafka.sh")
	home := filepath.Join(cache, "kafka")
	if jars, _ := filepath.Glob(filepath.Join(home, "libs", "kafka_*-"+peerKafkaVersion+".jar")); len(jars) == 0 {
		fmt.Fprintf(log, "installing Apache Kafka %s into %s\n", peerKafkaVersion, home)
		cmd := exec.CommandContext(ctx, "bash", script, "install", home)
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("installing Apache Kafka with Maven: %w", err)
		}
	}
	port, err := freePorts()
	if err != nil {
		return nil, err
	}
	return &ProcessTarget{Label: "kafka", Parent: parent, Software: "Apache Kafka " + peerKafkaVersion,
		Fixed: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), ReadyTimeout: 2 * time.Minute,
		Command: func(dir string) []string {
			// The script keeps data under DIR/data and takes the jars from DIR/libs.
			_ = os.Symlink(filepath.Join(home, "libs"), filepath.Join(dir, "libs")) // the broker says so when it is missing
			return []string{"bash", script, "serve", dir, strconv.Itoa(port)}
		}}, nil
}

// cacheDir is $WEIR_CACHE or ~/.cache/weir.
func cacheDir() (string, error) {
	if dir := os.Getenv("WEIR_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: set WEIR_CACHE: %w", err)
	}
	return filepath.Join(home, ".cache", "weir"), nil
}

// freePorts finds two successive free ports on the loopback and returns the first; Kafka's controller takes the second. They lie
// below the range from which the kernel gives ports to connections: Kafka opens the first seconds after its own controller's
// clients have connected, and one of them would take it.
func freePorts() (int, error) {
	const lowest = 12000
	low := 32768
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if n, err := strconv.Atoi(strings.Fields(string(text) + " x")[0]); err == nil && n > lowest+100 {
			low = n
		}
	}
	for range 50 {
		port := lowest + rand.IntN(low-2-lowest)
		a, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		b, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
		a.Close()
		if err == nil {
			b.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no two successive free ports on 127.0.0.1")
}

// writePeerScripts copies the peer's folder of files into dir.
func writePeerScripts(files fs.FS, name, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := fs.ReadDir(files, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(files, name+"/"+e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}
