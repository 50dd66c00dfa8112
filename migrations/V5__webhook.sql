-- What is told to the receiver of a webhook, and how far: by one replica at a time, and by another
-- where that one is gone. Both tables are small, and of the service alone: where groups are spread
-- over the nodes of a cluster, they stay at its coordinator.

CREATE TABLE webhook_sender (
    is_it boolean NOT NULL DEFAULT true,
    sender uuid NOT NULL,
    sends_until timestamptz NOT NULL,
    told_to bigint NOT NULL,
    CONSTRAINT webhook_sender_one_row PRIMARY KEY (is_it),
    CONSTRAINT webhook_sender_is_one CHECK (is_it),
    -- Nobody else could ever send.
    CONSTRAINT webhook_sender_time_is_finite CHECK (isfinite(sends_until))
);

COMMENT ON TABLE webhook_sender IS
    'Which replica tells the receiver of the webhook what happens, and how far it has come. No row '
    'before a webhook was set.';
COMMENT ON COLUMN webhook_sender.is_it IS 'Always true: there is one.';
COMMENT ON COLUMN webhook_sender.sender IS 'The replica, by what it calls itself until it ends.';
COMMENT ON COLUMN webhook_sender.sends_until IS
    'Until when no other replica sends. The one that sends moves it on.';
COMMENT ON COLUMN webhook_sender.told_to IS
    'Every event up to this id was told, was given up, or is of a kind that is not told.';

CREATE TABLE webhook_risks (
    of_group uuid NOT NULL,
    risk_id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id text COLLATE "C" NOT NULL,
    namespace_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    risk text NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    is_begin_told boolean NOT NULL DEFAULT false,
    CONSTRAINT webhook_risks_in_order_of_their_group PRIMARY KEY (of_group, risk_id),
    CONSTRAINT webhook_risks_times_are_finite CHECK (isfinite(began_at) AND isfinite(ended_at))
);

-- One that holds begins once, whichever replica has seen it.
CREATE UNIQUE INDEX webhook_risks_begin_once ON webhook_risks (of_group, risk)
    WHERE ended_at IS NULL;

-- For what is still to be told.
CREATE INDEX webhook_risks_to_be_told ON webhook_risks (began_at)
    WHERE ended_at IS NOT NULL OR NOT is_begin_told;

COMMENT ON TABLE webhook_risks IS
    'Risks of groups as the receiver of the webhook is told of them. A row goes once its end was '
    'told. What is at risk now is in group_risks.';
COMMENT ON COLUMN webhook_risks.of_group IS 'The group''s key.';
COMMENT ON COLUMN webhook_risks.risk_id IS 'What its beginning and its end are told by.';
COMMENT ON COLUMN webhook_risks.tenant_id IS 'The tenant of the group.';
COMMENT ON COLUMN webhook_risks.namespace_id IS 'The namespace of the group.';
COMMENT ON COLUMN webhook_risks.group_id IS 'The id of the group.';
COMMENT ON COLUMN webhook_risks.risk IS 'Which risk, as group_risks has it.';
COMMENT ON COLUMN webhook_risks.began_at IS 'When it was seen.';
COMMENT ON COLUMN webhook_risks.ended_at IS 'When it was seen to be over; null while it holds.';
COMMENT ON COLUMN webhook_risks.is_begin_told IS
    'Whether the receiver was told that it began, or that was given up.';
