package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/bench/rig"
)

const (
	look       = 10 * time.Millisecond // between two looks at something that is awaited
	streamName = "EVENTS"              // the relay's default
)

// scene is a population of subscriptions, a NATS server with a new stream, and the name
// of a slot that the relay makes.
type scene struct {
	*stage
	population
	nats *rig.NATS
	nc   *nats.Conn
	js   jetstream.JetStream
	slot string
	sent int // events so far
}

// scene takes the place of the one before. What the receiver saw then is forgotten.
func (s *stage) scene(ctx context.Context, p population) (c *scene, err error) {
	if err := s.populate(ctx, p); err != nil {
		return nil, err
	}
	if _, err := s.receiver.take(ctx); err != nil {
		return nil, err
	}
	s.slots++
	c = &scene{stage: s, population: p, slot: fmt.Sprintf("bench_%d", s.slots)}
	if c.nats, err = rig.StartNATS(ctx, s.dir, false); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.nats.Close()
		}
	}()
	if c.nc, err = nats.Connect(c.nats.URL, nats.Name("bench")); err != nil {
		return nil, err
	}
	c.js, err = jetstream.New(c.nc)
	return c, err
}

func (c *scene) close(ctx context.Context) error {
	c.nc.Close()
	c.nats.Close()
	return errors.Join(c.dropSlot(ctx, c.slot), c.tidy())
}

// process is a running relay.
type process struct {
	*rig.Child
	ready time.Time // it said that it does its work
	ports string    // file with the addresses it listens at
}

// run starts a relay with some of its roles.
func (c *scene) run(ctx context.Context, roles string) (*process, error) {
	dir, err := os.MkdirTemp(c.dir, "relay-")
	if err != nil {
		return nil, err
	}
	p := &process{ports: filepath.Join(dir, "ports.json")}
	p.Child, err = rig.Start(ctx, c.environ(c.slot, "RELAY_NATS_URL="+c.nats.URL, "RELAY_PORT_FILE="+p.ports), c.relay, "run", "--role="+roles)
	return p, err
}

// work starts a relay and waits until it says all of the words in its log.
func (c *scene) work(ctx context.Context, roles string, words ...string) (*process, error) {
	p, err := c.run(ctx, roles)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		said, err := p.Await(ctx, `"msg":"`+w+`"`)
		if err != nil {
			p.Kill()
			return nil, err
		}
		var logged struct{ Time time.Time }
		if err := json.Unmarshal([]byte(said.Text), &logged); err != nil {
			p.Kill()
			return nil, err
		}
		if logged.Time.After(p.ready) {
			p.ready = logged.Time
		}
	}
	return p, nil
}

// What the relay says when it captures, and when it delivers.
const (
	captures = "streaming"
	delivers = "delivery ready"
)

// awaitReady asks /readyz until it answers 200.
func (p *process) awaitReady(ctx context.Context) error {
	var ports struct{ Listen string }
	for {
		switch {
		case p.Ended():
			return p.Failure("ended")
		case ports.Listen == "":
			if text, err := os.ReadFile(p.ports); err == nil {
				if err := json.Unmarshal(text, &ports); err != nil {
					return err
				}
				continue
			}
		default:
			if ok, err := ask(ctx, "http://"+ports.Listen+"/readyz"); err != nil || ok {
				return err
			}
		}
		if err := rig.Wait(ctx, look); err != nil {
			return err
		}
	}
}

// ask tells whether the answer is 200.
func ask(ctx context.Context, url string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	return res.StatusCode == http.StatusOK, res.Body.Close()
}

// fill writes rows and has a relay put their events into the stream. It returns the id of
// the first one.
func (c *scene) fill(ctx context.Context, n int) (first int64, err error) {
	p, err := c.work(ctx, "capture", captures)
	if err != nil {
		return 0, err
	}
	defer p.Kill()
	const per = 1000
	first = c.next
	for left := n; left > 0; left -= per {
		rows := min(per, left)
		if _, err := c.db.Exec(ctx, insertRows(loud), c.next, c.next+int64(rows)-1, c.hooks); err != nil {
			return 0, err
		}
		c.next += int64(rows)
	}
	c.sent += n
	for begin := time.Now(); ; {
		st, err := c.js.Stream(ctx, streamName)
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return 0, err
		}
		if err == nil && st.CachedInfo().State.Msgs >= uint64(c.sent) {
			break
		}
		if p.Ended() || time.Since(begin) > rig.Patience {
			return 0, p.Failure(fmt.Sprintf("does not capture %d events", n))
		}
		if err := rig.Wait(ctx, look); err != nil {
			return 0, err
		}
	}
	return first, p.Stop()
}

// settled waits until so many deliveries to subscriptions from the one with this number
// on have succeeded, as the committed counters tell, and returns when that was seen.
func (c *scene) settled(ctx context.Context, p *process, from, want int) (time.Time, error) {
	progress, before := time.Now(), int64(-1)
	for {
		var n int64
		err := c.db.QueryRow(ctx, "select coalesce(sum(success_count), 0)::bigint from zapier_webhooks where substr(id, 2)::int >= $1", from).Scan(&n)
		now := time.Now()
		switch {
		case err != nil:
			return now, err
		case n == int64(want):
			return now, nil
		case n > int64(want):
			return now, fmt.Errorf("%d deliveries are counted of %d", n, want)
		case n > before:
			progress, before = now, n
		case p.Ended() || now.Sub(progress) > rig.Patience:
			return now, p.Failure(fmt.Sprintf("settles %d of %d deliveries", n, want))
		}
		if err := rig.Wait(ctx, look); err != nil {
			return now, err
		}
	}
}

// logged counts the rows of successes in the log.
func (s *stage) logged(ctx context.Context) (n int, err error) {
	err = s.db.QueryRow(ctx, "select count(*) from zapier_webhook_logs where status = 'success' and event_id not like 'evt\\_before%'").Scan(&n)
	return n, err
}
