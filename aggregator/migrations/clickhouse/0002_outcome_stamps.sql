-- Each plan's outcomes come with a stamp, a row that counts nothing (events/row.rs). It is looked for when an insert is in doubt,
-- and of no use two weeks later.
ALTER TABLE outcomes MODIFY TTL hour + toIntervalDay(14) DELETE WHERE outcome = 'plan';
