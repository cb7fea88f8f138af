package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/acme"
)

// The challenges that can be answered.
const (
	http01    = "http-01"
	tlsALPN01 = "tls-alpn-01"
)

// challenges are those that are tried, one per attempt and in turn, since each
// failure counts with the CA. HTTP-01 is first where it is served: the operator has
// seen to it, whereas the TLS port may be any.
func (a *ACME) challenges() []string {
	if a.config.HTTP01 {
		return []string{http01, tlsALPN01}
	}
	return []string{tlsALPN01}
}

// challengeError says that the CA was not convinced.
type challengeError struct {
	challenge string
	err       error
}

func (e *challengeError) Error() string {
	hint := "it connects to the name's port 443, which must lead to this mediator's port"
	if e.challenge == http01 {
		hint = "it connects to the name's port 80, which must lead to this mediator's plain HTTP port"
	}
	return fmt.Sprintf("the CA's challenge %s failed (%s): %v", e.challenge, hint, e.err)
}

func (e *challengeError) Unwrap() error { return e.err }

// maxNonces is how often a request is repeated because the CA forgot its nonce,
// which is how the protocol hands out the next one.
const maxNonces = 5

// connect returns a client of the CA that has an account there. It lasts for a
// round: a CA that has lost the account is told of it again with the next one.
func (a *ACME) connect(ctx context.Context) (*acme.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	ca := &acme.Client{
		Key: a.account, DirectoryURL: a.directory, HTTPClient: a.http, UserAgent: "p2pcdn-mediator",
		// What fails otherwise is tried again by Run, and not within the request.
		RetryBackoff: func(n int, _ *http.Request, answer *http.Response) time.Duration {
			if answer.StatusCode == http.StatusBadRequest && n <= maxNonces {
				return time.Millisecond
			}
			return 0
		},
	}
	directory, err := ca.Discover(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the CA's directory: %w", err)
	}
	account := &acme.Account{}
	if a.config.Email != "" {
		account.Contact = []string{"mailto:" + a.config.Email}
	}
	switch _, err := ca.Register(ctx, account, acme.AcceptTOS); {
	case err == nil:
		a.config.Logger.Info("an account was made with the CA, whose terms of service are agreed to by that", "ca", a.directory, "terms", directory.Terms)
	case !errors.Is(err, acme.ErrAccountAlreadyExists):
		return nil, fmt.Errorf("naming the account: %w", err)
	}
	return ca, nil
}

// obtain gets a certificate for one name, with a new key.
func (a *ACME) obtain(ctx context.Context, ca *acme.Client, h *host) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	order, err := ca.AuthorizeOrder(ctx, acme.DomainIDs(h.name))
	if err != nil {
		return nil, fmt.Errorf("ordering: %w", err)
	}
	for _, url := range order.AuthzURLs {
		if err := a.prove(ctx, ca, h, url); err != nil {
			return nil, err
		}
	}
	ready, err := ca.WaitOrder(ctx, order.URI)
	if err != nil {
		return nil, fmt.Errorf("waiting for the order: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{h.name}}, key)
	if err != nil {
		return nil, err
	}
	chain, err := finish(ctx, ca, order.URI, ready.FinalizeURL, request)
	if err != nil {
		return nil, fmt.Errorf("finishing the order: %w", err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("reading the CA's certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the CA's certificate is for another key")
	}
	if err := leaf.VerifyHostname(h.name); err != nil {
		return nil, fmt.Errorf("the CA's certificate is for another name: %w", err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// finish hands in the request of an order that is ready, and returns the certificate
// and its chain. A CA may take its time to sign. The acme package then looks for
// the order where a Location of the answer says, which a CA need not send (Pebble does
// not): whatever went wrong, it is the order itself that says how it stands.
func finish(ctx context.Context, ca *acme.Client, order, finalize string, request []byte) ([][]byte, error) {
	const withChain = true
	chain, _, err := ca.CreateOrderCert(ctx, finalize, request, withChain)
	if err == nil {
		return chain, nil
	}
	signed, waitErr := ca.WaitOrder(ctx, order)
	switch {
	case waitErr != nil:
		return nil, waitErr
	case signed.Status != acme.StatusValid:
		return nil, err
	}
	return ca.FetchCert(ctx, signed.CertURL, withChain)
}

// prove convinces the CA that the name leads here, unless it remembers that from
// an earlier time.
func (a *ACME) prove(ctx context.Context, ca *acme.Client, h *host, url string) error {
	authorization, err := ca.GetAuthorization(ctx, url)
	if err != nil {
		return fmt.Errorf("reading what is to be proved: %w", err)
	}
	if authorization.Status == acme.StatusValid {
		return nil
	}
	mine := a.challenges()
	kind := mine[h.next%len(mine)]
	i := slices.IndexFunc(authorization.Challenges, func(c *acme.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return &challengeError{kind, errors.New("the CA does not offer it")}
	}
	challenge := authorization.Challenges[i]
	remove, err := a.answer(ca, h.name, challenge)
	if err != nil {
		return fmt.Errorf("making the answer to %s: %w", kind, err)
	}
	defer remove()
	if _, err = ca.Accept(ctx, challenge); err == nil {
		_, err = ca.WaitAuthorization(ctx, url)
	}
	if err != nil {
		return &challengeError{kind, err}
	}
	return nil
}

// answer puts the answer to a challenge where the CA looks for it.
func (a *ACME) answer(ca *acme.Client, name string, challenge *acme.Challenge) (remove func(), err error) {
	if challenge.Type == http01 {
		answer, err := ca.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return nil, err
		}
		return put(a, a.tokens, ca.HTTP01ChallengePath(challenge.Token), answer), nil
	}
	proof, err := ca.TLSALPN01ChallengeCert(challenge.Token, name)
	if err != nil {
		return nil, err
	}
	return put(a, a.proofs, name, &proof), nil
}

// put adds to one of the maps that mu guards, and returns what takes it out again.
func put[V any](a *ACME, answers map[string]V, key string, answer V) (remove func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answers[key] = answer
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(answers, key)
	}
}
