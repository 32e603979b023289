package ops

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dot-do/relay/relay"
)

// Position is how far capture has come, safe for any number of goroutines.
type Position struct {
	received, published, confirmed, seq atomic.Uint64
}

// Received notes the end of the server's log as the server reported it.
func (p *Position) Received(lsn relay.LSN) { raise(&p.received, uint64(lsn)) }

// Published notes what the stream holds; lsn is zero inside a transaction.
func (p *Position) Published(lsn relay.LSN, seq uint64) {
	raise(&p.published, uint64(lsn))
	p.seq.Store(seq)
}

// Confirmed notes what the slot was told.
func (p *Position) Confirmed(lsn relay.LSN) {
	raise(&p.confirmed, uint64(lsn))
	raise(&p.published, uint64(lsn))
}

func raise(a *atomic.Uint64, v uint64) {
	for {
		old := a.Load()
		if v <= old || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// positionReport is the body of /v1/position.
type positionReport struct {
	Received  string `json:"received"`
	Published string `json:"published"`
	Confirmed string `json:"confirmed"`
	StreamSeq uint64 `json:"stream_seq"`
	LagBytes  uint64 `json:"lag_bytes"` // received and not yet in the stream
}

func (p *Position) report() positionReport {
	received, published := p.received.Load(), p.published.Load()
	received = max(received, published)
	return positionReport{
		Received: relay.LSN(received).String(), Published: relay.LSN(published).String(), Confirmed: relay.LSN(p.confirmed.Load()).String(),
		StreamSeq: p.seq.Load(), LagBytes: received - published,
	}
}

// Held is the log position up to which everything is in the stream, zero before the
// first session.
func (p *Position) Held() relay.LSN { return relay.LSN(p.published.Load()) }

// Metrics are the process's Prometheus metrics.
type Metrics struct {
	registry   *prometheus.Registry
	changes    prometheus.Counter
	events     prometheus.Counter
	refused    *prometheus.GaugeVec
	parked     prometheus.Counter
	violated   *prometheus.CounterVec
	schemas    *prometheus.GaugeVec
	unchecked  prometheus.Counter
	released   prometheus.Counter
	left       prometheus.Counter
	absent     prometheus.Gauge
	outcomes   *prometheus.CounterVec
	attempts   *prometheus.HistogramVec
	subs       *prometheus.GaugeVec
	quarantine prometheus.Gauge
	load       *prometheus.GaugeVec
	panics     prometheus.Counter
	throttled  prometheus.Counter
	swept      prometheus.Counter
	disabled   *prometheus.CounterVec
	undecided  prometheus.Counter
	unreadable prometheus.Counter
	restarts   *prometheus.CounterVec
	backfilled *prometheus.CounterVec
	filling    prometheus.Gauge
	unfilled   prometheus.Gauge
	retained   prometheus.Gauge
	budget     prometheus.Gauge
	openTx     prometheus.Gauge
	heartbeats atomic.Int64
	holes      *prometheus.GaugeVec
	audited    prometheus.Gauge
}

// NewMetrics registers all metrics, and gauges that read pos and health.
func NewMetrics(pos *Position, health *Health) *Metrics {
	m := &Metrics{
		registry:   prometheus.NewRegistry(),
		changes:    prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_changes_total", Help: "Row changes read from the slot."}),
		events:     prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_events_published_total", Help: "Messages held by the stream."}),
		refused:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "relay_mapping_refused", Help: "1 while a mapping cannot be used."}, []string{"mapping"}),
		parked:     prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_rows_parked_total", Help: "Row changes that raised no event because mapping them panicked."}),
		violated:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_events_parked_total", Help: "Events that were not published because their data violates the schema of their type."}, []string{"event_type"}),
		schemas:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "relay_schema_refused", Help: "1 while the payload schema of an event type cannot be used: its events are parked."}, []string{"event_type"}),
		unchecked:  prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_events_unchecked_total", Help: "Events that were not held to their schema because their data is not whole."}),
		released:   prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_events_released_total", Help: "Parked events that are published."}),
		left:       prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_tables_left_publication_total", Help: "Mapped tables that were found missing in the publication: what was written to them meanwhile raised no event."}),
		absent:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_tables_unpublished", Help: "Mapped tables that have left the publication and are not back in it."}),
		outcomes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_delivery_outcomes_total", Help: "Settled outcomes of deliveries."}, []string{"outcome"}),
		attempts:   prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "relay_attempt_seconds", Help: "Duration of HTTP attempts.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 14)}, []string{"class"}),
		subs:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "relay_subscriptions", Help: "Active subscriptions known to delivery, by state: usable, broken."}, []string{"state"}),
		quarantine: prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_filters_quarantined", Help: "Subscriptions that match nothing because their filter cannot be used."}),
		load:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "relay_delivery_load", Help: "What the delivery engine holds in memory."}, []string{"what"}),
		disabled:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_webhooks_disabled_total", Help: "Webhooks switched off, by reason."}, []string{"reason"}),
		swept:      prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_log_rows_deleted_total", Help: "Old rows of the delivery log deleted one by one."}),
		throttled:  prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_deliveries_throttled_total", Help: "Deliveries put aside until the next hour because their webhook's hourly quota is used up."}),
		panics:     prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_panics_total", Help: "Panics that cost one delivery or one filter."}),
		undecided:  prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_filters_undecided_total", Help: "Filters that needed a value which the event does not show."}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{Name: "relay_stream_unreadable_total", Help: "Stream messages that are no usable events."}),
		restarts:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_session_restarts_total", Help: "Sessions that ended with an error and were begun again."}, []string{"part"}),
		backfilled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "relay_backfill_total", Help: "Backfills: rows read, rows that raised events, these events, and rows left to their own changes."}, []string{"what"}),
		filling:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_backfill_running", Help: "1 while a backfill runs in this process."}),
		unfilled:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_backfill_rows_left", Help: "Rows that the running backfill has left, as the planner guessed."}),
		retained:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_slot_retained_bytes", Help: "Log that the server keeps on its disk for the slot."}),
		budget:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_slot_budget_bytes", Help: "Log that the slot may keep: wal_budget, or the server's own limit when that is less; 0 for no limit."}),
		openTx:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_open_transaction_seconds", Help: "Age of the oldest transaction that holds the log, 0 when none is older than ten minutes."}),
	}
	m.holes = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "relay_stream_holes", Help: "Ranges of the stream that do not hold what they held, and that nobody has dealt with."}, []string{"reason"})
	m.audited = prometheus.NewGauge(prometheus.GaugeOpts{Name: "relay_stream_audited_sequence", Help: "Sequence up to which the stream's chain was followed."})
	for _, reason := range []string{relay.HoleMissing, relay.HolePurged, relay.HoleOrder} {
		m.holes.WithLabelValues(reason) // so that an alert can tell none from unknown
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	m.registry.MustRegister(
		m.changes, m.events, m.refused, m.parked, m.violated, m.schemas, m.unchecked, m.released, m.left, m.absent, m.outcomes, m.attempts, m.subs, m.quarantine, m.load, m.panics, m.throttled, m.swept, m.disabled, m.undecided, m.unreadable, m.restarts,
		m.backfilled, m.filling, m.unfilled,
		m.retained, m.budget, m.openTx, m.holes, m.audited,
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "relay_heartbeats_total", Help: "Heartbeats written into the log by this process."},
			func() float64 { return float64(m.heartbeats.Load()) }),
		gauge("relay_received_lsn", "Log position received, in bytes.", func() float64 { return float64(pos.received.Load()) }),
		gauge("relay_published_lsn", "Log position held by the stream, in bytes.", func() float64 { return float64(pos.published.Load()) }),
		gauge("relay_confirmed_lsn", "Log position confirmed to the slot, in bytes.", func() float64 { return float64(pos.confirmed.Load()) }),
		gauge("relay_lag_bytes", "Log received and not yet in the stream, in bytes.", func() float64 { return float64(pos.report().LagBytes) }),
		gauge("relay_stream_sequence", "Sequence of the last message known to be stored.", func() float64 { return float64(pos.seq.Load()) }),
		gauge("relay_ready", "1 when /readyz answers 200.", func() float64 {
			if health.Ready() {
				return 1
			}
			return 0
		}),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Changes counts row changes read.
func (m *Metrics) Changes(n int) { m.changes.Add(float64(n)) }

// Events counts messages stored.
func (m *Metrics) Events(n int) { m.events.Add(float64(n)) }

// Refused notes whether a mapping can be used.
func (m *Metrics) Refused(mapping string, refused bool) {
	if refused {
		m.refused.WithLabelValues(mapping).Set(1)
		return
	}
	m.refused.DeleteLabelValues(mapping)
}

// Parked counts a row change that could not be mapped.
func (m *Metrics) Parked() { m.parked.Inc() }

// EventParked counts an event whose data violates the schema of its type.
func (m *Metrics) EventParked(eventType string) { m.violated.WithLabelValues(eventType).Inc() }

// SchemaRefused notes whether the payload schema of a type can be used.
func (m *Metrics) SchemaRefused(eventType string, refused bool) {
	if refused {
		m.schemas.WithLabelValues(eventType).Set(1)
		return
	}
	m.schemas.DeleteLabelValues(eventType)
}

// Unchecked counts an event that was not held to its schema.
func (m *Metrics) Unchecked() { m.unchecked.Inc() }

// Released counts a parked event that is published.
func (m *Metrics) Released() { m.released.Inc() }

// LeftPublication counts a mapped table that was found missing in the publication.
func (m *Metrics) LeftPublication() { m.left.Inc() }

// Unpublished notes how many mapped tables are missing in it now.
func (m *Metrics) Unpublished(n int) { m.absent.Set(float64(n)) }

// Outcome counts settled outcomes of one kind: delivered, retry, deferred, dead,
// gone, skipped.
func (m *Metrics) Outcome(kind string, n int) { m.outcomes.WithLabelValues(kind).Add(float64(n)) }

// Attempt notes the duration of one HTTP exchange; class is success, or the class
// of its failure.
func (m *Metrics) Attempt(class string, d time.Duration) {
	m.attempts.WithLabelValues(class).Observe(d.Seconds())
}

// Subscriptions notes how many there are, how many of them are broken, and how many
// of those because of their filter.
func (m *Metrics) Subscriptions(known, broken, quarantined int) {
	m.quarantine.Set(float64(quarantined))
	m.subs.WithLabelValues("usable").Set(float64(known - broken))
	m.subs.WithLabelValues("broken").Set(float64(broken))
}

// Load notes what the delivery engine holds.
func (m *Metrics) Load(held map[string]int) {
	for what, n := range held {
		m.load.WithLabelValues(what).Set(float64(n))
	}
}

// Disabled counts a webhook that was switched off.
func (m *Metrics) Disabled(reason string) { m.disabled.WithLabelValues(reason).Inc() }

// LogSwept counts old rows of the delivery log that were deleted.
func (m *Metrics) LogSwept(rows int64) { m.swept.Add(float64(rows)) }

// Throttled counts a delivery that waits for the next hour's quota.
func (m *Metrics) Throttled() { m.throttled.Inc() }

// Panicked counts a panic that was contained.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Undecided counts filters that could not be decided.
func (m *Metrics) Undecided(n int) { m.undecided.Add(float64(n)) }

// Unreadable counts a stream message that is no usable event.
func (m *Metrics) Unreadable() { m.unreadable.Inc() }

// Backfilled counts what a chunk of a backfill added.
func (m *Metrics) Backfilled(p relay.Progress) {
	for what, n := range map[string]int64{"rows_read": p.Rows, "rows_published": p.Published, "events": p.Events, "rows_overtaken": p.Overtaken} {
		m.backfilled.WithLabelValues(what).Add(float64(n))
	}
}

// Backfilling notes whether a backfill runs, and how many rows it has left.
func (m *Metrics) Backfilling(left int64, running bool) {
	m.unfilled.Set(float64(left))
	if running {
		m.filling.Set(1)
	} else {
		m.filling.Set(0)
	}
}

// Slot notes what the slot keeps on its server's disk.
func (m *Metrics) Slot(retained, budget int64, oldest time.Duration, heartbeats int) {
	m.retained.Set(float64(retained))
	m.budget.Set(float64(budget))
	m.openTx.Set(oldest.Seconds())
	m.heartbeats.Store(int64(heartbeats))
}

// Audited notes how many holes of each reason are open in the stream, and up to which
// message its chain was followed.
func (m *Metrics) Audited(open map[string]int, seq uint64) {
	for _, reason := range []string{relay.HoleMissing, relay.HolePurged, relay.HoleOrder} {
		m.holes.WithLabelValues(reason).Set(float64(open[reason]))
	}
	m.audited.Set(float64(seq))
}

// Restart counts a session that is begun again.
func (m *Metrics) Restart(part string) { m.restarts.WithLabelValues(part).Inc() }
