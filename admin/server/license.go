package server

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailplusd/admin/api"
	"mailplusd/admin/auth"
	"mailplusd/admin/op"
	"mailplusd/mail/model"
	"mailplusd/mail/state"
)

// A seat key is payload.signature in base64: quantity, expiry, a random serial, for one system.
const licensePrefix = "MPL1."

func (s *Server) issuer() (ed25519.PrivateKey, error) {
	seed, err := base64.StdEncoding.DecodeString(s.mail.State.Current().System.IssuerKey)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("this system has no issuer key")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (s *Server) licenseIssue(_ context.Context, _ *Call, in *api.LicenseIssueIn) (api.LicenseKey, error) {
	if in.Quantity%5 != 0 {
		return api.LicenseKey{}, op.Errorf(op.Usage, "licences come in packs of 5 or 20 accounts: give a multiple of 5")
	}
	key, err := s.issuer()
	if err != nil {
		return api.LicenseKey{}, err
	}
	_, serial := auth.NewToken()
	payload := binary.BigEndian.AppendUint32(nil, uint32(in.Quantity))
	expires := int64(0)
	if in.Days > 0 {
		expires = time.Now().AddDate(0, 0, in.Days).Unix()
	}
	payload = binary.BigEndian.AppendUint64(payload, uint64(expires))
	payload = append(payload, serial[:8]...)
	sig := ed25519.Sign(key, append([]byte(s.mail.State.Current().System.ID), payload...))
	return api.LicenseKey{Key: licensePrefix + base64.RawURLEncoding.EncodeToString(append(payload, sig...)) + "\n"}, nil
}

func (s *Server) parseLicense(text string) (*model.License, error) {
	text = strings.TrimSpace(text)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(text, licensePrefix))
	if err != nil || !strings.HasPrefix(text, licensePrefix) || len(raw) != 20+ed25519.SignatureSize {
		return nil, op.Errorf(op.Refused, "%.20q is no licence key", text)
	}
	key, err := s.issuer()
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), append([]byte(s.mail.State.Current().System.ID), raw[:20]...), raw[20:]) {
		return nil, op.Errorf(op.Refused, "the licence key was not made for this system")
	}
	return &model.License{
		Serial: hex.EncodeToString(raw[12:20]), Key: text, Quantity: int(binary.BigEndian.Uint32(raw)), Expires: int64(binary.BigEndian.Uint64(raw[4:])), Activated: time.Now().Unix(),
	}, nil
}

// licenseAdd installs keys, all or none (R4.14, R4.15).
func (s *Server) licenseAdd(ctx context.Context, c *Call, in *api.LicenseAddIn) ([]api.LicenseRow, error) {
	if !in.Accept {
		return nil, refused("the terms of the licence must be agreed to", "mpctl license add … --accept-terms")
	}
	err := s.change(ctx, c, func(tx *state.Tx) error {
		for _, text := range in.Keys {
			l, err := s.parseLicense(text)
			if err != nil {
				return err
			}
			if has, err := state.Licenses.Has(tx, l.Serial); err != nil {
				return err
			} else if has {
				return exists("licence key", l.Serial, "mpctl license list")
			}
			l.Owner = in.Owner
			if err := state.Licenses.Put(tx, l); err != nil {
				return err
			}
			c.Diff(op.FieldDiff{Field: l.Serial, New: fmt.Sprint(l.Quantity, " seats")})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.licenseList(ctx, c, nil)
}

func (s *Server) licenseList(context.Context, *Call, *op.None) ([]api.LicenseRow, error) {
	out := []api.LicenseRow{{Serial: "DEFAULT FREE LICENSE", Quantity: model.FreeSeats, Status: "Validated"}}
	for l, err := range state.Licenses.All(s.mail.State, "") {
		if err != nil {
			return nil, err
		}
		row := api.LicenseRow{Serial: l.Serial, Quantity: l.Quantity, Activated: time.Unix(l.Activated, 0).Format("2006/01/02"), Status: "Validated"}
		if l.Expires != 0 {
			row.Expires = time.Unix(l.Expires, 0).Format("2006/01/02")
			if l.Expires < time.Now().Unix() {
				row.Status = "Expired"
			}
		}
		out = append(out, row)
	}
	return out, nil
}
