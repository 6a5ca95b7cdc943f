package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// startMetrics serves /metrics (Prometheus), /healthz (the process answers) and /readyz (it serves clients and every log
// directory is online) at addr. It returns the address listened on and what stops the server.
func (b *Broker) startMetrics(addr string) (listening string, stop func(context.Context) error, err error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("serving metrics at %s: %w", addr, err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &collector{b: b})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", b.serveReady)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			b.logger.Error("metrics server ended", "error", err)
		}
	}()
	return listener.Addr().String(), func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		<-done
		return err
	}, nil
}

// serveReady answers 200 when every log directory is online and the metadata log takes changes, else 503 with the reasons.
func (b *Broker) serveReady(w http.ResponseWriter, _ *http.Request) {
	reasons := map[string]string{}
	for _, dir := range b.store.DirStats() {
		if dir.Err != nil {
			reasons[dir.Dir] = dir.Err.Error()
		}
	}
	if err := b.node.Err(); err != nil {
		reasons["metadata"] = err.Error()
	}
	if len(reasons) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusServiceUnavailable)
	if err := json.NewEncoder(w).Encode(reasons); err != nil {
		b.logger.Debug("readyz", "error", err)
	}
}
