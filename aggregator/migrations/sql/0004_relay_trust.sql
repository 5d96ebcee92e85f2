-- What a relay last said that it trusts (fingerprints, separated by commas), and whose certificate it showed.
ALTER TABLE relays ADD COLUMN trusted_authorities TEXT;
ALTER TABLE relays ADD COLUMN shown_authority TEXT;
