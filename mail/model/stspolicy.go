package model

// STSPolicy is the MTA-STS policy of another domain, kept as long as it says.
type STSPolicy struct {
	Domain  string `cbor:"domain"`
	ID      string `cbor:"id"`
	Text    string `cbor:"text"`    // the policy file
	Fetched int64  `cbor:"fetched"` // Unix seconds
	Until   int64  `cbor:"until"`   // Unix seconds: after which it doesn't hold any more
}
