package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/dot-do/relay/bench/rig"
)

// perEndpoint is how many requests the engine makes to one endpoint at once: the default
// of webhook.Config.
const perEndpoint = 4

// letter is a request that is ready to be sent.
type letter struct {
	url    string
	header http.Header
	body   []byte
}

// seal signs a body as the relay does.
func seal(url, id string, body []byte) (letter, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secretOf, "whsec_"))
	if err != nil {
		return letter{}, err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(id + "." + at + ".")) // a hash takes everything
	_, _ = h.Write(body)
	return letter{url: url, body: body, header: http.Header{
		"Content-Type":      {"application/json"},
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {at},
		"Webhook-Signature": {"v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))},
	}}, nil
}

// letters are what the relay is going to send for the events of the stream: to one
// subscription after the other, or each to all of them.
func (c *scene) letters(ctx context.Context, first int64) ([]letter, error) {
	consumer, err := c.js.OrderedConsumer(ctx, streamName, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"events.>"}})
	if err != nil {
		return nil, err
	}
	msgs, err := consumer.Messages()
	if err != nil {
		return nil, err
	}
	defer msgs.Stop()
	var out []letter
	for n := range c.sent {
		msg, err := msgs.Next(jetstream.NextMaxWait(rig.Patience))
		if err != nil {
			return nil, err
		}
		id := first + int64(n)
		to := []int{int(id % int64(c.hooks))}
		for i := 0; c.all && i < c.hooks; i++ {
			to = append(to[:i], i)
		}
		for _, i := range to {
			l, err := seal(c.receiver.url+c.path(i), fmt.Sprintf("bare_%d_%d", id, i), msg.Data())
			if err != nil {
				return nil, err
			}
			out = append(out, l)
		}
	}
	return out, nil
}

// client is the floor: net/http and nothing else.
type client struct{ http.Client }

func newClient(concurrency int) *client {
	return &client{http.Client{Transport: &http.Transport{MaxIdleConns: concurrency, MaxIdleConnsPerHost: concurrency}}}
}

func (c *client) post(ctx context.Context, l letter) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url, bytes.NewReader(l.body))
	if err != nil {
		return err
	}
	req.Header = l.header
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", l.url, res.Status)
	}
	return nil
}

// bare posts the letters and returns how long that took.
func bare(ctx context.Context, letters []letter, concurrency int) (time.Duration, error) {
	c := newClient(concurrency)
	defer c.CloseIdleConnections()
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make([]error, concurrency)
	begin := time.Now()
	for w := range concurrency {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(letters)) && failed[w] == nil; i = next.Add(1) - 1 {
				failed[w] = c.post(ctx, letters[i])
			}
		})
	}
	wg.Wait()
	return time.Since(begin), errors.Join(failed...)
}
