// Package filters compiles and evaluates subscription filters over JSON documents.
//
// A filter is a JSON object, and a document matches it exactly when Postgres would
// say
//
//	document::jsonb @> filter::jsonb
//
// Every key of the filter must be in the document, at the same level, with a value
// that contains the filter's. An array in a filter is a set: each of its elements
// must be contained in some element of the document's array. Numbers are compared as
// exact decimals, strings by their bytes after unescaping, nothing is ever coerced,
// null is not the same as missing, and of repeated keys in a document the last one
// counts.
//
// Object keys that begin with a dollar sign are reserved for operators. None is
// defined yet, so Compile refuses them all rather than match too much; "$$key" stands
// for the literal key "$key". Documents need no such care.
//
// A filter is compiled once, when a subscription is saved, and evaluated many times.
// Compile reports every mistake; Match cannot fail: it answers Yes, No or Unknown, the
// last when a value it needs was not sent. Only Yes may deliver.
//
// # Documents that jsonb would refuse
//
// A document that is not JSON text in UTF-8, or is nested more than [MaxDocDepth]
// deep, matches nothing, not even {}. A json column may however hold well-formed
// values that jsonb cannot: a string with \u0000 or half a surrogate pair, or a number
// of a million digits. Such a value equals no filter value, and the rest of the
// document matches as usual.
//
// # Cost
//
// Matching reads the document once to check it and once to walk it, plus once more
// for each level that the filter descends into a nested value. Arrays of containers
// are the expensive case: every array or object in a filter's array may have to be
// compared with every element of the document's, as in Postgres. The bytes visited
// are therefore counted, and a match that has visited ten times the document and
// another 256 KiB stops and answers Unknown. A filter without arrays never gets there
// unless it is more than ten levels deep; one with arrays only if it compares many
// arrays or objects with those of a large document. The answer is Unknown and not No so
// that a negation cannot turn it into Yes.
//
// Matching allocates nothing unless gjson, on a level that is walked, meets a string or
// key with escapes or a number beyond float64, or the document is nested deeper than 512
// levels.
package filters
