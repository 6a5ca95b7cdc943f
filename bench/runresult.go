package bench

import (
	"fmt"
	"time"
)

// RunResult is what one measured run on one target gave.
type RunResult struct {
	Target     string            `json:"target"`
	Repeat     int               `json:"repeat"` // pair or round number, from 0
	Order      int               `json:"order"`  // position in the whole series
	Started    time.Time         `json:"started"`
	Seconds    float64           `json:"measured_s"`
	InForce    map[string]string `json:"in_force"`   // configuration read back from the target
	Congestion string            `json:"congestion"` // of the generator's sockets, as read back

	Offered        float64 `json:"offered_records_per_s"` // 0: as fast as possible
	Records        float64 `json:"acked_records_per_s"`
	ValueBytes     float64 `json:"acked_value_bytes_per_s"`
	ReadRecords    float64 `json:"read_records_per_s"`
	ReadBytes      float64 `json:"read_value_bytes_per_s"`
	CatchUpBytes   float64 `json:"catch_up_value_bytes_per_s"` // until caught up, all such readers together
	CatchUpSeconds float64 `json:"catch_up_s"`                 // until the last one had caught up; 0: not within the measurement
	Requests       int64   `json:"produce_requests"`
	Fetches        int64   `json:"fetch_responses"`
	FailedRequests int64   `json:"failed_requests"`
	// UnsentRequests were due, but the target took no more; they count in Response with the time that they had waited.
	UnsentRequests int64 `json:"unsent_requests"`
	// Limit says what bounded the run: see limit.go.
	Limit string `json:"limit"`

	Response     *Latency `json:"response,omitempty"`
	Service      *Latency `json:"service,omitempty"`
	Slip         *Latency `json:"slip,omitempty"`
	GeneratorLag *Latency `json:"generator_lag,omitempty"`
	EndToEnd     *Latency `json:"end_to_end,omitempty"`
	CatchUpFetch *Latency `json:"catch_up_fetch,omitempty"`
	Clamped      int64    `json:"clamped_values"` // beyond 60 s, counted as 60 s

	PerSecond []Second `json:"per_second"`

	Broker    *BrokerCost   `json:"broker,omitempty"` // nil when the target is not on this host
	Generator GeneratorCost `json:"generator"`
	Host      HostLoad      `json:"host"`

	// MemoryRate is the first-touch rate probed before the run, bytes per second of CPU time; 0 when not probed.
	MemoryRate float64 `json:"first_touch_bytes_per_s"`
	// FirstTouched is the memory that the run took from the host's free memory, bytes; StoredBytes is what producers sent, compressed.
	FirstTouched int64 `json:"first_touched_bytes"`
	StoredBytes  int64 `json:"sent_bytes"`
	FetchedBytes int64 `json:"fetched_bytes"` // of records as they came over the wire, compressed
	// BoundShare is how much of what this host can move at best the run moved, 0 to 1; 0 when the host's floors were not measured.
	BoundShare float64 `json:"bound_share"`

	Errors  map[string]int64 `json:"errors,omitempty"`
	Truth   Truth            `json:"truth"`
	Valid   bool             `json:"valid"`
	Reasons []string         `json:"invalid_reasons,omitempty"`
	Notes   []string         `json:"notes,omitempty"`

	fetchedValues float64 // value bytes in FetchedBytes
	hists         encodedSet
	perSec        []encodedSet // as PerSecond
}

// BrokerCost is what the measurement cost the broker's processes.
type BrokerCost struct {
	CPUSeconds      float64 `json:"cpu_s"`
	Cores           float64 `json:"cpu_cores"`
	CPUPerGB        float64 `json:"cpu_s_per_gb"`       // per 10^9 value bytes acknowledged and read
	CPUPerRequest   float64 `json:"cpu_us_per_request"` // per produce request and fetch response
	RSSPeakBytes    int64   `json:"rss_peak_bytes"`
	CtxPerRequest   float64 `json:"context_switches_per_request"`
	CtxVoluntary    int64   `json:"context_switches_voluntary"`
	CtxInvoluntary  int64   `json:"context_switches_involuntary"`
	StorageBytes    int64   `json:"storage_bytes"` // handed to the block layer on the broker's account
	WrittenBytes    int64   `json:"written_bytes"` // by write calls of any kind, sockets included
	WriteCalls      int64   `json:"write_calls"`
	WriteAmplify    float64 `json:"storage_per_value_byte"`
	DeviceFlushes   int64   `json:"device_flushes"` // of all disks of the host
	FlushesPerSec   float64 `json:"device_flushes_per_s"`
	MinorFaults     int64   `json:"minor_faults"`
	Threads         int     `json:"threads"`
	RecordsPerFlush float64 `json:"records_per_flush"`
}

// GeneratorCost is what the measurement cost the generator.
type GeneratorCost struct {
	CPUs       int     `json:"cpus,omitempty"` // cores of the workers' hosts together; 0: the generator shares the target's host, or runs on this one
	CPUSeconds float64 `json:"cpu_s"`
	Cores      float64 `json:"cpu_cores"`
	CPUPerGB   float64 `json:"cpu_s_per_gb"`
	GCs        int     `json:"gc_count"`
	GCPauseUS  float64 `json:"gc_pause_total_us"`
	GCMaxUS    float64 `json:"gc_pause_max_us"`
}

// HostLoad is the host during the measurement, in cores.
type HostLoad struct {
	CPUs        int     `json:"cpus"`
	BusyCores   float64 `json:"busy_cores"`
	StealCores  float64 `json:"steal_cores"`
	KernelCores float64 `json:"kernel_thread_cores"` // writeback and the like
	// IRQCores is the time in interrupts, the loopback's traffic above all; some kernels charge it to the processes too.
	IRQCores float64 `json:"interrupt_cores"`
	// OtherCores is the CPU time of all other processes, or what is busy and none of the above, whichever is larger: processes of
	// another container show in the second only.
	OtherCores float64 `json:"other_cores"`
}

func (res *RunResult) note(format string, args ...any) {
	res.Notes = append(res.Notes, fmt.Sprintf(format, args...))
}

// fill computes the result from the totals around the measurement.
func (res *RunResult) fill(r *run, col *collector, before, after *totals) {
	sec := float64(after.at-before.at) / 1e9
	records := float64(r.unitRecords)
	res.Seconds = sec
	if r.spec.Rate.Kind == RateAbsolute && r.spec.Conns > 0 {
		res.Offered = r.spec.Rate.Value
	}
	res.Requests, res.Fetches = after.acked-before.acked, after.fetches-before.fetches
	end := r.light()
	res.FailedRequests = max(end.failed, after.failed) - before.failed
	if res.UnsentRequests = max(end.unsent, after.unsent); res.UnsentRequests > 0 {
		res.note("%d requests that were due before the end were never sent: the target took no more", res.UnsentRequests)
	}
	res.Records = float64(res.Requests) * records / sec
	res.ValueBytes = float64(after.ackBytes-before.ackBytes) / sec
	res.ReadRecords = float64(after.read-before.read+after.catchRead-before.catchRead) * records / sec
	res.ReadBytes = float64(after.readBytes-before.readBytes) / sec
	catchSec := sec
	if at := r.lastCaughtUp.Load(); at > 0 && r.behind.Load() == 0 && at < after.at {
		catchSec = float64(at-before.at) / 1e9
		res.CatchUpSeconds = catchSec
	}
	res.CatchUpBytes = float64(after.catchBytes-before.catchBytes) / catchSec
	h := &col.total.h
	res.Response, res.Service, res.Slip = summarize(h[metricResponse]), summarize(h[metricService]), summarize(h[metricSlip])
	res.GeneratorLag, res.EndToEnd, res.CatchUpFetch = summarize(h[metricLag]), summarize(h[metricEndToEnd]), summarize(h[metricCatchUp])
	res.Clamped, res.PerSecond = col.total.clamped, col.seconds
	col.seal()
	res.hists, res.perSec = col.total.encode(), col.perSec
	moved := float64(after.ackBytes-before.ackBytes+after.readBytes-before.readBytes+after.catchBytes-before.catchBytes) / 1e9
	if len(r.pids()) > 0 {
		res.Broker = brokerCost(before, after, sec, moved, float64(res.Requests+res.Fetches), float64(res.Requests)*records)
		res.Broker.RSSPeakBytes = max(col.rssPeak, after.broker.RSSBytes)
		if v := float64(after.ackBytes - before.ackBytes); v > 0 {
			res.Broker.WriteAmplify = float64(res.Broker.StorageBytes) / v
		}
	}
	self := after.self.cpuSeconds - before.self.cpuSeconds
	res.Generator = GeneratorCost{CPUs: r.workerCPUs, CPUSeconds: self, Cores: self / sec, GCs: int(after.self.gcCount - before.self.gcCount),
		GCPauseUS: float64((after.self.gcPause - before.self.gcPause).Microseconds()), CPUPerGB: ratio(self, moved)}
	res.Generator.GCMaxUS = float64(after.self.longestPause(&before.self).Microseconds())
	if w := after.workers; w != nil {
		res.Generator.GCs, res.Generator.GCMaxUS, res.Generator.GCPauseUS = w.gcs, w.gcMaxUS, w.gcMaxUS
	}
	res.Host = hostLoad(before, after, sec)
	res.Errors = r.errorCounts()
	res.StoredBytes, res.FetchedBytes = after.wireBytes-before.wireBytes, after.fetchedOnWire-before.fetchedOnWire
	res.fetchedValues = float64(after.readBytes - before.readBytes + after.catchBytes - before.catchBytes)
	res.FirstTouched = res.firstTouched(before, after)
	res.Limit = res.limit(r.spec)
	res.judge(r.spec)
}

func brokerCost(before, after *totals, sec, moved, requests, records float64) *BrokerCost {
	a, b := &before.broker, &after.broker
	c := &BrokerCost{CPUSeconds: b.CPUSeconds - a.CPUSeconds, CtxVoluntary: b.CtxVol - a.CtxVol, CtxInvoluntary: b.CtxInvol - a.CtxInvol,
		StorageBytes: b.WriteBytes - a.WriteBytes, WrittenBytes: b.Written - a.Written, WriteCalls: b.WriteCalls - a.WriteCalls,
		DeviceFlushes: after.host.flushes - before.host.flushes, MinorFaults: b.MinorFaults - a.MinorFaults, Threads: b.Threads}
	c.Cores = c.CPUSeconds / sec
	c.CPUPerGB = ratio(c.CPUSeconds, moved)
	c.CPUPerRequest = ratio(c.CPUSeconds*1e6, requests)
	c.CtxPerRequest = ratio(float64(c.CtxVoluntary+c.CtxInvoluntary), requests)
	c.FlushesPerSec = float64(c.DeviceFlushes) / sec
	c.RecordsPerFlush = ratio(records, float64(c.DeviceFlushes))
	return c
}

// hostLoad is the load of this host between two deep samples.
func hostLoad(before, after *totals, sec float64) HostLoad {
	generators := after.self.cpuSeconds - before.self.cpuSeconds
	others := after.host.others - before.host.others
	if after.workers != nil { // the load came from them; those on this host are other processes
		generators = after.workers.here - before.workers.here
		others -= generators
		generators += after.workers.controller - before.workers.controller
	}
	l := HostLoad{CPUs: hostCPUs(), BusyCores: (after.host.busy - before.host.busy) / sec,
		StealCores: (after.host.steal - before.host.steal) / sec}
	l.KernelCores = after.host.kernelSince(&before.host) / sec
	l.IRQCores = (after.host.irq - before.host.irq) / sec
	rest := l.BusyCores - l.KernelCores - l.IRQCores - (generators+after.broker.CPUSeconds-before.broker.CPUSeconds)/sec
	l.OtherCores = max(0, rest, others/sec)
	return l
}

// ratio is a/b, 0 when b is 0.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
