package outbox_test

import (
	"context"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dot-do/relay/outbox"
)

// payOrder marks an order as paid and says so: both are committed, or neither.
func payOrder(ctx context.Context, pool *pgxpool.Pool, orderID, customerID string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `update orders set paid_at = now() where id = $1`, orderID); err != nil {
			return fmt.Errorf("mark order %q as paid: %w", orderID, err)
		}
		_, err := outbox.Append(ctx, tx, outbox.Event{
			Type:      "order.paid",
			Aggregate: outbox.Aggregate{Type: "order", ID: orderID},
			Owner:     outbox.Owner{UserID: customerID},
			Payload:   map[string]any{"order_id": orderID},
		})
		return err
	})
}

// The type was registered once, as part of a migration of the application:
//
//	insert into zapier_webhook_events (event_type, category, description)
//	values ('order.paid', 'order', 'An order was paid.');
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	if err := payOrder(ctx, pool, "42", "u1"); err != nil {
		fmt.Println(err)
	}
}
