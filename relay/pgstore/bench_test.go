package pgstore_test

import (
	"fmt"
	"testing"

	"github.com/dot-do/relay/relay"
)

// BenchmarkSettle records batches of 500 successes of 1 KB events, and next to it
// the same number of rows written by a bare COPY into the log table.
func BenchmarkSettle(b *testing.B) {
	const outcomes = 500
	db := newDB(b)
	for i := range 50 {
		subscribe(db, id(i))
	}
	s := open(b, db)
	payload := fmt.Appendf(nil, `{"id":"evt_a","type":"thing.updated","data":{"s":"%0900d"}}`, 7)
	serial := 0
	batch := func() []relay.Outcome {
		out := make([]relay.Outcome, outcomes)
		for i := range out {
			serial++
			out[i] = outcome(delivery(fmt.Sprint(serial), id(i%50)), 1, relay.Delivered)
			out[i].Delivery.Body = payload
		}
		return out
	}
	b.Run("ledger", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			next := batch()
			b.StartTimer()
			if err := s.Settle(b.Context(), next); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(outcomes)*float64(b.N)/b.Elapsed().Seconds(), "outcomes/s")
	})
	b.Run("insert", func(b *testing.B) {
		for b.Loop() {
			_, err := db.Pool.Exec(b.Context(), `
				insert into zapier_webhook_logs (webhook_id, event_type, event_id, target_url, status, payload, delivered_at)
				select 'w' || lpad((n % 50)::text, 6, '0'), 'thing.updated', 'evt_x' || n, 'https://hooks.example.com/1', 'success', $1::text::jsonb, now()
				from generate_series(1, 500) n`, string(payload))
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(outcomes)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
