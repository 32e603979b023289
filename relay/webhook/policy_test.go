package webhook

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dot-do/relay/relay"
)

func failed(n int, headers map[string]string) *relay.Attempt {
	return &relay.Attempt{Number: n, StatusCode: 503, Error: "status: 503", ResponseHeaders: headers, StartedAt: time.Unix(1_700_000_000, 0), Duration: time.Second}
}

func TestOutcomeOfEveryStatus(t *testing.T) {
	sub := &relay.Subscription{MaxRetries: 2, Backoff: time.Second}
	for code := range 600 {
		a := &relay.Attempt{Number: 1, StatusCode: code, Error: "x"}
		if code >= 200 && code < 300 {
			a.Error = ""
		}
		want := relay.Retry
		switch {
		case code >= 200 && code < 300:
			want = relay.Delivered
		case code == 410:
			want = relay.Gone
		}
		o := retryPolicy{}.outcome(relay.Delivery{}, sub, a, 0.5)
		require.Equal(t, want, o.Kind, code)
		require.Equal(t, 1, o.Delivery.Attempts)
	}
}

func TestMaxRetriesNMeansNPlusOneAttempts(t *testing.T) {
	for retries := range 6 {
		sub := &relay.Subscription{MaxRetries: retries, Backoff: time.Second}
		d, attempts := relay.Delivery{}, 0
		for {
			attempts++
			o := retryPolicy{}.outcome(d, sub, failed(d.Attempts+1, nil), 0.5)
			d = o.Delivery
			if o.Kind == relay.Dead {
				require.Equal(t, "exhausted", o.Reason)
				break
			}
			require.Equal(t, relay.Retry, o.Kind)
		}
		require.Equal(t, retries+1, attempts)
	}
}

func TestScheduleWinsOverBackoffAndItsLastValueRepeats(t *testing.T) {
	p := retryPolicy{schedule: []time.Duration{time.Second, 2 * time.Second, 5 * time.Second}}
	sub := &relay.Subscription{Backoff: time.Hour}
	for n, want := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second} {
		require.Equal(t, want, p.delay(sub, failed(n+1, nil), 0.5))
	}
}

func TestBackoffDoublesUpToOneHour(t *testing.T) {
	sub := &relay.Subscription{Backoff: 5 * time.Second}
	for n, want := range []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second} {
		require.Equal(t, want, retryPolicy{}.delay(sub, failed(n+1, nil), 0.5))
	}
	require.Equal(t, time.Hour, retryPolicy{}.delay(sub, failed(1<<30, nil), 0.5))
	require.Equal(t, time.Hour, retryPolicy{}.delay(&relay.Subscription{Backoff: 1<<63 - 1}, failed(3, nil), 0.5))
	require.Equal(t, minRetryDelay, retryPolicy{}.delay(&relay.Subscription{}, failed(3, nil), 0.5))
}

func TestRetryAfterIsReadInEveryForm(t *testing.T) {
	date := "Tue, 14 Nov 2023 22:13:20 GMT" // 1700000000
	for name, tc := range map[string]struct {
		headers map[string]string
		want    time.Duration
		ok      bool
	}{
		"none":                      {nil, 0, false},
		"seconds":                   {map[string]string{"retry-after": "120"}, 2 * time.Minute, true},
		"zero":                      {map[string]string{"retry-after": "0"}, 0, true},
		"negative":                  {map[string]string{"retry-after": "-5"}, 0, false},
		"fraction":                  {map[string]string{"retry-after": "1.5"}, 0, false},
		"10^12":                     {map[string]string{"retry-after": "1000000000000"}, maxRetryAfter, true},
		"more than fits a number":   {map[string]string{"retry-after": "99999999999999999999999"}, maxRetryAfter, true},
		"garbage":                   {map[string]string{"retry-after": "soon"}, 0, false},
		"long garbage":              {map[string]string{"retry-after": "soon soon soon soon soon soon"}, 0, false},
		"date, by the server clock": {map[string]string{"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": date}, time.Minute, true},
		"date, by ours":             {map[string]string{"retry-after": "Tue, 14 Nov 2023 22:14:21 GMT"}, time.Minute, true},
		"date, server clock ahead":  {map[string]string{"retry-after": "Thu, 14 Nov 2030 22:14:20 GMT", "date": "Thu, 14 Nov 2030 22:13:50 GMT"}, 30 * time.Second, true},
		"date in the past":          {map[string]string{"retry-after": "Tue, 14 Nov 2023 22:00:00 GMT", "date": date}, 0, false},
		"date in 2099":              {map[string]string{"retry-after": "Sat, 14 Nov 2099 22:00:00 GMT", "date": date}, maxRetryAfter, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := retryAfter(failed(1, tc.headers))
			require.Equal(t, tc.ok, ok)
			if ok {
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestDelayIsAlwaysWithinItsBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var p retryPolicy
		for range r.IntN(4) {
			p.schedule = append(p.schedule, time.Duration(r.Int64N(int64(2*time.Hour))))
		}
		sub := &relay.Subscription{Backoff: time.Duration(r.Int64N(int64(time.Hour)))}
		a := failed(1+r.IntN(40), nil)
		asked := time.Duration(-1)
		if r.IntN(2) == 0 {
			asked = time.Duration(r.Int64N(3600)) * time.Second
			a.ResponseHeaders = map[string]string{"retry-after": asked.String()}
			a.ResponseHeaders["retry-after"] = time.Unix(1_700_000_001, 0).Add(asked).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		}
		planned := p.planned(sub.Backoff, a.Number)
		got := p.delay(sub, a, r.Float64())
		require.GreaterOrEqual(t, got, minRetryDelay)
		require.GreaterOrEqual(t, got, asked, "never earlier than Retry-After")
		require.GreaterOrEqual(t, float64(got), 0.8*float64(planned)-1, "never earlier than the schedule less its jitter")
		longest := max(1.2*float64(planned)+1, float64(asked)+float64(12*time.Second), float64(minRetryDelay))
		require.LessOrEqual(t, float64(got), longest)
	}
}
