"""Keys, scopes and chains for tests, made from seeds."""

from __future__ import annotations

import random
from dataclasses import dataclass

from livesync.peering.certificates import Certificate
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.keys import PrivateKey
from livesync.peering.scopes import ScopeDefinition

NOW = 1_800_000_000.0
DAY = 86_400

FULL = ScopeDefinition(
    "full-facility",
    "facilitydata",
    1,
    description="Everything of facility ${dataset_id}.",
    read_write_filter_template="${dataset_id}",
)
#: The same, but of a root whose key alone rules over its data.
OWN = ScopeDefinition(
    "own-facility",
    "facilitydata",
    1,
    primary_scope_param_key="dataset_id",
    read_write_filter_template="${dataset_id}",
)
USER = ScopeDefinition(
    "single-user",
    "facilitydata",
    1,
    description="What user ${user_id} of facility ${dataset_id} needs.",
    read_filter_template="${dataset_id}:allusers-ro\n${dataset_id}:user-ro:${user_id}",
    write_filter_template="${dataset_id}:anonymous",
    read_write_filter_template="${dataset_id}:user-rw:${user_id}",
)


def randomness(seed=1):
    """Return a source of bytes that are the same each time."""
    source = random.Random(seed)
    return source.randbytes


def key(seed):
    return PrivateKey.generate(randomness(f"key {seed}"))


@dataclass
class Holder:
    """Somebody with a key and a chain."""

    key: PrivateKey
    chain: tuple[Certificate, ...]

    @property
    def certificate(self):
        return self.chain[-1]

    def give(self, seed, definition, params, valid_s=30 * DAY, now=NOW, **others):
        """Return a new holder below this one."""
        private = key(seed)
        child = sign_certificate(
            self.certificate,
            self.key,
            private.public,
            definition.get_scope(params),
            now=now,
            valid_s=valid_s,
            random=randomness(f"salt {seed}"),
            **others,
        )
        return Holder(private, (*self.chain, child))


def root(seed="root", definition=FULL, now=NOW, valid_s=365 * DAY, **params):
    private = key(seed)
    made = generate_root_certificate(
        private,
        definition,
        params if params or definition.primary_scope_param_key else {"dataset_id": "F1"},
        now=now,
        valid_s=valid_s,
        random=randomness(f"salt {seed}"),
    )
    return Holder(private, (made,))


def family():
    """Return cloud, city, facility and tablet: each one below the one before."""
    cloud = root("cloud")
    city = cloud.give("city", FULL, {"dataset_id": "F1"})
    facility = city.give("facility", FULL, {"dataset_id": "F1"})
    tablet = facility.give("tablet", USER, {"dataset_id": "F1", "user_id": "U1"})
    return cloud, city, facility, tablet
