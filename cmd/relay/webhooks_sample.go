package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dot-do/relay/internal/config"
	"github.com/dot-do/relay/relay"
	"github.com/dot-do/relay/relay/pgstore"
	"github.com/dot-do/relay/relay/webhook"
)

type webhooksTestCmd struct {
	ID   string `arg:"" help:"The webhook, a row of zapier_webhooks."`
	Show bool   `help:"Only print the sample; nothing is sent."`
	JSON bool   `help:"One JSON object."`
}

// Help is the longer text of --help.
func (webhooksTestCmd) Help() string {
	return `Sends one signed sample to the endpoint, made from the schema of the event type, as a delivery would be: the same headers, signature,
timeout and egress rules. Its source.lsn is 0/0 and its id one that no event has. Nothing is recorded, counted or repeated.

Exit code 0: the endpoint took it; 1: it did not.`
}

// sampled is the JSON of the command.
type sampled struct {
	Webhook   string          `json:"webhook"`
	EventType string          `json:"event_type"`
	EventID   string          `json:"event_id"`
	Sent      bool            `json:"sent"`
	OK        bool            `json:"ok"`
	Signed    bool            `json:"signed"`
	Status    int             `json:"response_status,omitempty"`
	Took      int64           `json:"duration_ms,omitempty"`
	Error     string          `json:"error,omitempty"`
	Answer    string          `json:"answer,omitempty"`
	Body      json.RawMessage `json:"body"`
}

const answerShown = 500 // bytes of an answer on a terminal

// Run sends a sample.
func (c *webhooksTestCmd) Run(ctx context.Context, a *app) error {
	cfg, err := config.Load(a.configPath, a.environ)
	if err != nil {
		return err
	}
	ring, warning, err := loadKeyring(cfg)
	if err != nil {
		return err
	}
	if warning != "" {
		fmt.Fprintf(a.stderr, "relay: %s\n", warning)
	}
	log, _ := newLogger(a.stderr, cfg.Log)
	store, err := pgstore.Open(ctx, pgstore.Config{URL: cfg.Source.URL, Keyring: ring, MaxConns: 2, Logger: log})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:contextcheck // closing writes what is left although ctx has ended
	sub, body, err := c.sample(ctx, store)
	if err != nil {
		return err
	}
	out := sampled{Webhook: c.ID, EventType: sub.EventType, EventID: body.ID, Signed: len(sub.Secrets) > 0, Body: body.text}
	if !c.Show {
		sender := webhook.NewSender(webhook.SenderConfig{
			Egress:  webhook.Policy{Allow: cfg.Webhook.EgressAllow, HTTP: cfg.Webhook.EgressHTTP},
			Timeout: cfg.Webhook.HTTPTimeout, Version: version,
		})
		defer sender.Close()
		tried := sender.Send(ctx, relay.Delivery{
			EventID: body.ID, EventType: sub.EventType, SubscriptionID: sub.ID, Owner: sub.Owner, Body: body.text,
		}, sub)
		if tried == nil {
			return ctx.Err()
		}
		out.Sent, out.OK, out.Status, out.Took = true, tried.Error == "", tried.StatusCode, tried.Duration.Milliseconds()
		out.Error, out.Answer = tried.Error, tried.ResponseBody
	}
	return c.print(a, &out)
}

// sample reads the webhook and makes an event for it.
func (c *webhooksTestCmd) sample(ctx context.Context, store *pgstore.Store) (*relay.Subscription, *sampleBody, error) {
	rows, err := store.Read(ctx, []string{c.ID})
	if err != nil {
		return nil, nil, err
	}
	if len(rows) == 0 {
		return nil, nil, noWebhook(c.ID)
	}
	sub := &rows[0]
	var broken *relay.FilterError
	if sub.Broken != nil && !errors.As(sub.Broken, &broken) { // a filter has no part in this
		return nil, nil, fmt.Errorf("webhook %s cannot be used: %w", printable(c.ID), sub.Broken)
	}
	t, err := store.EventType(ctx, sub.EventType)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, usageError{fmt.Errorf("zapier_webhook_events has no event type %q", sub.EventType)}
	}
	body, err := newSample(t)
	return sub, body, err
}

func (c *webhooksTestCmd) print(a *app, out *sampled) error {
	if c.JSON {
		if err := json.NewEncoder(a.stdout).Encode(out); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		line := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
		line("webhook", printable(out.Webhook))
		line("event", out.EventType+", "+out.EventID)
		line("signed", out.Signed)
		line("body", string(out.Body))
		switch {
		case !out.Sent:
			line("sent", "no, only shown")
		case out.Status > 0:
			line("answer", fmt.Sprintf("%d in %d ms", out.Status, out.Took))
		}
		if out.Error != "" {
			line("error", printable(out.Error))
		}
		if out.Answer != "" {
			line("its body", printable(cut(out.Answer, answerShown)))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if out.Sent && !out.OK {
		return reported{errors.New("not delivered")}
	}
	return nil
}

// cut shortens a text to about limit bytes.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

// sampleBody is an event as endpoints get it.
type sampleBody struct {
	ID        string       `json:"id"`
	Type      string       `json:"type"`
	Timestamp string       `json:"timestamp"`
	Source    sampleSource `json:"source"`
	Data      any          `json:"data"`
	text      []byte
}

type sampleSource struct {
	Table string         `json:"table"`
	Op    string         `json:"op"`
	LSN   string         `json:"lsn"`
	Key   map[string]any `json:"key"`
}

// newSample makes an event of a type. Its id has the form of one and names none.
func newSample(t *pgstore.EventType) (*sampleBody, error) {
	now := time.Now().UTC()
	s := &sampleBody{
		ID: "evt_" + strings.ToLower(rand.Text()), Type: t.Name, Timestamp: now.Format("2006-01-02T15:04:05.000000Z"),
		Source: sampleSource{Table: "public.outbox_events", Op: "insert", LSN: "0/0", Key: map[string]any{}},
	}
	if len(t.Sources) > 0 {
		s.Source.Table, s.Source.Op = t.Sources[0].Table, t.Sources[0].Op.String()
	}
	var schema any
	if err := json.Unmarshal(t.Schema, &schema); err != nil {
		return nil, fmt.Errorf("payload_schema of event type %s: %w", t.Name, err)
	}
	m := sampler{root: schema, now: now, made: new(int)}
	s.Data = m.of(schema, "", 0)
	if object, ok := s.Data.(map[string]any); ok {
		if id, ok := object["id"]; ok {
			s.Source.Key["id"] = id
		}
	} else {
		s.Data = map[string]any{}
	}
	var err error
	s.text, err = json.Marshal(s)
	return s, err
}
