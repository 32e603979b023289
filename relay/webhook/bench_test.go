package webhook_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dot-do/relay/internal/secret"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/relaytest"
	"github.com/dot-do/relay/relay/webhook"
)

// BenchmarkDelivery measures the engine, signing included, against a bare HTTP
// client that posts the same body over as many connections. Compare deliveries/s.
func BenchmarkDelivery(b *testing.B) {
	const lanes, perLane = 4, 4
	body := []byte(`{"data":{"title":"` + string(bytes.Repeat([]byte("x"), 480)) + `"}}`)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	defer srv.Close()

	b.Run("bare-client", func(b *testing.B) {
		transport := &http.Transport{MaxIdleConnsPerHost: lanes * perLane}
		defer transport.CloseIdleConnections()
		var left atomic.Int64
		left.Store(int64(b.N))
		var wg sync.WaitGroup
		for range lanes * perLane {
			wg.Go(func() {
				for left.Add(-1) >= 0 {
					req, _ := http.NewRequest(http.MethodPost, srv.URL, bytes.NewReader(body))
					res, err := transport.RoundTrip(req)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
	})
	b.Run("engine", func(b *testing.B) {
		events := (b.N + lanes - 1) / lanes
		s := &stage{subs: relaytest.NewSubscriptions(), url: srv.URL}
		for i := range lanes {
			sub := s.subscription(b, fmt.Sprint(i), `{}`)
			sub.Secrets = []secret.String{secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}
			s.subs.Put(sub)
		}
		cfg := s.config()
		ledger := &countingLedger{Ledger: relaytest.NewLedger(s.subs), want: int64(events * lanes), all: make(chan struct{})}
		cfg.Feed, cfg.Ledger, cfg.LaneConcurrency = &fixedFeed{Feed: relaytest.NewFeed(time.Minute), left: events, body: body}, ledger, perLane
		b.ResetTimer()
		stop := start(b, cfg)
		<-ledger.all
		b.StopTimer()
		b.ReportMetric(float64(events*lanes)/b.Elapsed().Seconds(), "deliveries/s")
		stop()
		b.ReportMetric(float64(ledger.aside), "put-aside")
	})
}

// fixedFeed hands out events as fast as they are taken.
type fixedFeed struct {
	webhook.Feed
	left int
	seq  uint64
	body []byte
}

func (f *fixedFeed) Next(ctx context.Context, limit int) ([]relay.StreamMessage, error) {
	if f.left == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	batch := make([]relay.StreamMessage, min(limit, f.left))
	f.left -= len(batch)
	for i := range batch {
		f.seq++
		batch[i] = relay.StreamMessage{Seq: f.seq, Event: relay.Event{
			ID: fmt.Sprint("evt_", f.seq), Type: "thing.updated", Visibility: relay.VisibleToEveryone, Body: f.body, Data: f.body,
		}}
	}
	return batch, nil
}

func (f *fixedFeed) Ack(context.Context, relay.StreamMessage) error { return nil }
func (f *fixedFeed) Extend(relay.StreamMessage) error               { return nil }
func (f *fixedFeed) Return(relay.StreamMessage) error               { return nil }

// countingLedger counts deliveries and keeps only what is put aside.
type countingLedger struct {
	webhook.Ledger
	done, aside, want int64
	all               chan struct{}
}

func (l *countingLedger) Settle(ctx context.Context, outcomes []relay.Outcome) error {
	var kept []relay.Outcome
	for _, o := range outcomes {
		if o.Kind == relay.Delivered {
			l.done++
		} else {
			l.aside++
		}
		if o.Kind != relay.Delivered || o.Leased != "" {
			kept = append(kept, o)
		}
	}
	if l.done == l.want {
		close(l.all)
	}
	return l.Ledger.Settle(ctx, kept)
}
