// Package arch holds the house rules that the compiler does not know, as tests.
//
// Packages live on floors and import downwards only, never sideways:
//
//	4  cmd/relay  bench/filters  bench/capture  bench/delivery
//	3  relay/pgsource  relay/pgstore  relay/natsstream  relay/webhook
//	   internal/api  internal/oauth  internal/ops  migrations
//	2  relay
//	1  outbox  filters  relay/pgoutput  internal/config  internal/pgproc
//	0  internal/secret  bench/figures  bench/rig
//
// Floor 3 meets only through the interfaces that its members declare and cmd/relay
// wires. Each third-party module has owners, so that replacing it is the work of
// one package. Packages that support tests may import every floor and reach no
// binary. Test files are free: they may pull in what they need to test against the
// real thing.
//
// A new package gets its floor, and a new module its owner, in floors_test.go.
package arch
