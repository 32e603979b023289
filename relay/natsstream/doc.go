// Package natsstream keeps the event log in NATS JetStream.
//
// A Client is one connection to one stream. Its Writer is the relay's Stream: the
// sole, fenced writer. Its Feed is the deliverers' end: a durable pull consumer
// that all delivery processes share. Embedded runs the real NATS server inside
// the process, for installations that have none.
//
// # How the writer keeps its promise
//
// Every message names the sequence it must follow (Nats-Expected-Last-Sequence),
// so thousands of messages can be on their way at once and the stream still takes
// all of them in order, or refuses the first that does not fit and those behind
// it. Sequences alone would let a late message in when another writer took the places
// of its predecessors. So messages go in a batch, of which the server takes nothing
// behind the first that is missing or refused, and only one batch is on its way at a
// time: a fast batch, which goes on for as long as there are events, or, where the
// server syncs every write, atomic ones, each stored as a whole with one sync. A
// stream that takes no batches gets single messages, which name the id of the one
// before as well, if it has no replicas (Nats-Expected-Last-Msg-Id). So neither a
// second writer slips in between, nor a message of a process that was frozen and
// wakes up late. The writer never sends anything
// again by itself: after an error it refuses to append until Tail has been read,
// and the tail says what to send.
//
// # What a message carries
//
// The subject is events.<event type>, or the type itself for an announcement
// (relay.control.webhooks). The headers are CloudEvents' binary mode plus
//
//	ce-id          the event id; ctl_<position> for an announcement. Nats-Msg-Id is the
//	               same, where it is sent
//	Relay-Pos      position of the event, "0/16B3748:12:0"
//	Relay-Prev     position of the message before it; empty when unknown
//	Relay-Owner    who may see it: audience=owner&user=…&tenant=…, or audience=everyone
//	Relay-Control  sequence of the last announcement before it; 0 for none
//
// and the body is the event's JSON, byte for byte what webhooks receive.
package natsstream
