package natsstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	maxBatch      = 1024 // messages one request may ask for
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	pullGap       = 5 * time.Millisecond   // silence in the middle of an answer after which what is there is returned
	pullRetry     = 10 * time.Millisecond  // after the server put a request off
	pullRetryLong = 250 * time.Millisecond // after it lost its leader or shuts down
)

// errConsumerGone is returned by a puller whose consumer was deleted, or answers
// no more.
var errConsumerGone = errors.New("consumer is gone")

// errReconnected is returned by a puller before its first request over another
// connection: its owner may want to look at the consumer first.
var errReconnected = errors.New("connected anew")

// puller asks a consumer for messages: one request at a time, and only when its
// owner wants some, because a message that waits in a buffer here runs out of
// its AckWait. A request brings what there is at once, or the first message that
// comes.
type puller struct {
	nc      *nats.Conn
	link    *link
	subject string // of the consumer's next-message API
	inbox   string
	sub     *nats.Subscription
	ch      chan *nats.Msg

	serial int             // of the last request
	owed   int             // messages it may still bring; 0: no request is open
	broken <-chan struct{} // the connection that it went over has ended
}

func (c *Client) newPuller(consumer string) (*puller, error) {
	p := &puller{
		nc: c.nc, link: c.link,
		subject: "$JS.API.CONSUMER.MSG.NEXT." + c.cfg.Stream + "." + consumer,
		inbox:   c.nc.NewInbox() + ".",
		ch:      make(chan *nats.Msg, 2*maxBatch+64),
	}
	var err error
	if p.sub, err = p.nc.ChanSubscribe(p.inbox+"*", p.ch); err != nil {
		return nil, fmt.Errorf("subscribe to messages: %w", err)
	}
	return p, nil
}

// next waits until there are messages and returns at most limit of them. It goes
// on through a lost connection. The error is errConsumerGone, errReconnected, errClosed or the context's.
func (p *puller) next(ctx context.Context, limit int) ([]*nats.Msg, error) {
	limit = min(max(limit, 1), maxBatch)
	var batch []*nats.Msg
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if p.owed == 0 && len(batch) == 0 && len(p.ch) == 0 {
			if err := p.request(ctx, limit); err != nil {
				return nil, err
			}
		}
		if len(batch) == 0 {
			timer.Reset(2 * pullHeartbeat)
		} else {
			timer.Reset(pullGap)
		}
		select {
		case msg := <-p.ch:
			pause, err := p.take(msg, &batch)
			if err != nil && len(batch) == 0 {
				return nil, err
			}
			if pause > 0 && len(batch) == 0 {
				if err := sleep(ctx, pause); err != nil {
					return nil, err
				}
			}
			if len(batch) == limit || (len(batch) > 0 && p.owed == 0 && len(p.ch) == 0) {
				return batch, nil
			}
		case <-p.broken:
			p.owed = 0
			if len(batch) > 0 {
				return batch, nil
			}
		case <-timer.C:
			if len(batch) > 0 {
				return batch, nil
			}
			p.owed = 0 // not even a heartbeat: ask again
		case <-ctx.Done():
			if len(batch) > 0 {
				return batch, nil
			}
			return nil, ctx.Err()
		}
	}
}

// request opens a request, once there is a connection.
func (p *puller) request(ctx context.Context, limit int) error {
	for {
		if err := p.link.await(ctx); err != nil {
			return err
		}
		select {
		case <-p.broken: // of the connection before
			p.broken = p.link.lost()
			return errReconnected
		default:
		}
		if p.broken == nil {
			p.broken = p.link.lost()
		}
		p.serial++
		body, err := json.Marshal(struct {
			Batch     int           `json:"batch"`
			Expires   time.Duration `json:"expires"`
			NoWait    bool          `json:"no_wait"` // with expires: end with the first answer
			Heartbeat time.Duration `json:"idle_heartbeat"`
		}{limit, pullExpires, true, pullHeartbeat})
		if err != nil {
			return err
		}
		err = p.nc.PublishRequest(p.subject, p.inbox+strconv.Itoa(p.serial), body)
		switch {
		case err == nil:
			p.owed = limit
			return nil
		case errors.Is(err, nats.ErrConnectionClosed):
			return errClosed
		}
		if err := sleep(ctx, pullRetry); err != nil { // the connection has just gone
			return err
		}
	}
}

// take sorts a message: one for the batch, or a status of the open request. A
// pause says how long to wait before the next request.
func (p *puller) take(msg *nats.Msg, batch *[]*nats.Msg) (pause time.Duration, err error) {
	status := msg.Header.Get("Status")
	if status == "" || len(msg.Data) > 0 || !strings.HasPrefix(msg.Subject, p.inbox) {
		*batch = append(*batch, msg)
		p.owed = max(0, p.owed-1)
		return 0, nil
	}
	if msg.Subject[len(p.inbox):] != strconv.Itoa(p.serial) {
		return 0, nil // of a request that was given up
	}
	description := strings.ToLower(msg.Header.Get("Description"))
	switch {
	case status == "100": // heartbeat
		return 0, nil
	case status == "503", strings.Contains(description, "consumer deleted"), strings.Contains(description, "push based"):
		p.owed = 0
		return 0, errConsumerGone
	case status == "409":
		p.owed = 0
		return pullRetryLong, nil
	case status == "408" && strings.Contains(description, "requests pending"):
		p.owed = 0
		return pullRetry, nil
	}
	p.owed = 0 // 404 or 408: the request has ended
	return 0, nil
}

// arrived returns the messages that are here already.
func (p *puller) arrived() []*nats.Msg {
	var batch []*nats.Msg
	for len(p.ch) > 0 {
		_, _ = p.take(<-p.ch, &batch) // a consumer that is gone is noticed by the next request
	}
	return batch
}

// closeWait is for the answer of a server that is there.
const closeWait = time.Second

// close ends the subscription and returns what had arrived, also what the server was
// sending just then. Without a connection the steps fail, and nothing arrives any more.
func (p *puller) close() []*nats.Msg {
	if err := p.sub.Drain(); err == nil {
		_ = p.nc.FlushTimeout(closeWait)
	}
	batch := p.arrived()
	_ = p.sub.Unsubscribe()
	return batch
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
