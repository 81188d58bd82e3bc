"""Predictions of every entity as a table, each with the model and the table versions it came from."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError, ModelNotFound
from lakehouse.features import ModelRows, described, feature_source, prediction_set
from lakehouse.learning.evaluation import own_threshold
from lakehouse.learning.explaining import REASONS, REASONS_METHOD, REASONS_UNIT, explain_rows
from lakehouse.learning.fingerprint import code_digest
from lakehouse.learning.lifecycle import State, Traffic, assigned_sql
from lakehouse.learning.lifecycle.observing import Answers, record_answers
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.records import made_already
from lakehouse.learning.registry import LoadedModel, Registry, no_champion, unheard
from lakehouse.learning.scoring import NUMBER, score
from lakehouse.learning.sources import declared_views, require_tables
from lakehouse.openlineage import job
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Session, Stamp, Transaction

_VERSION = "__version"
# The first is ours: features that are gone. The second is scikit-learn's, for values that it can't take.
_FAILS = (ModelError, ValueError)


def predict_batch(
    settings: Settings, lake: Lake, contract: ModelContract, *, run: str, now: datetime, waiting: Callable[[str], None] = unheard
) -> Commit:
    """Replace `models.<model>_predictions` by what the model says of every entity's newest row, labelled or not.

    The champion answers; while another version is rolled out, that one answers for its share of the entities, the same ones each
    time. Where it can't, the champion does, and it counts as an error of the other. Earlier predictions stay readable as earlier
    versions of the table. Nothing is written (the commit says skipped) where the newest version was made by these model versions, in
    these shares, from these table versions with this code. One process of a home at a time predicts.

    Args:
        settings: of the home.
        lake: the tables.
        contract: of the model.
        run: recorded with the predictions.
        now: the time of prediction.
        waiting: told, in one line, that another process is predicting with this model.

    Raises:
        ModelNotFound: no version of the model is in production.
        ModelError: the features have changed since the model was trained.
        FeatureError: a feature view is missing or can't be joined.
        TableNotFound: a table of features has not been built.
    """
    registry = Registry(settings)
    source = feature_source(contract, declared_views(settings, contract))
    require_tables(lake, source)
    with registry.turn("predicting", contract.name, waiting=waiting), job(settings, lake, "predict", contract.name, run=run):
        lifecycle = Lifecycle(registry, lake, waiting=waiting)
        traffic = lifecycle.traffic(contract) or _nobody(registry, lake, contract)
        champion = lifecycle.load(contract.name, traffic.champion)
        candidate = lifecycle.load(contract.name, traffic.candidate) if traffic.candidate is not None else None
        with lake.connect(source.tables) as session:
            stamp = Stamp(
                asset=f"models.{contract.name}_predictions",
                run=run,
                inputs=session.inputs(*source.tables),
                code=code_digest("predictions"),
                source=_made_by(contract, champion, candidate, traffic),
            )
            made = made_already(lake, stamp)
            if made is not None:
                return made
            batch = _Batch(
                lake, session, prediction_set(described(source, session.con)), stamp, contract=contract, traffic=traffic, now=now
            )
            sql = batch.shadowed(champion, candidate) if traffic.shadow and candidate is not None else batch.divided(champion, candidate)
            return lake.overwrite(session.con, stamp.asset, sql, stamp=stamp)


def _nobody(registry: Registry, lake: Lake, contract: ModelContract) -> Traffic:
    """Say why nobody answers.

    Raises:
        ModelNotFound: always.
    """
    waiting = Lifecycle(registry, lake).recorded(contract.name).challenger
    if waiting is None or waiting.state is State.TRAINED:
        raise no_champion(contract.name)
    raise ModelNotFound(
        f"model {contract.name}",
        "has no champion: no version of it is in production yet",
        found=f"version {waiting.version} is {waiting.state}; {', '.join(waiting.held_by)} did not hold",
        fix=f"Run `lakehouse model promote {contract.name}`, which says what is missing",
    )


def _made_by(contract: ModelContract, champion: LoadedModel, candidate: LoadedModel | None, traffic: Traffic) -> dict[str, object]:
    """Which versions a table of predictions is of, for its stamp."""
    made: dict[str, object] = {"model": f"models.{champion.name}@{champion.version}", "model_digest": champion.spec.digest}
    if champion.threshold is not None:
        made["threshold"] = champion.threshold
        if champion.spec.positive is not None:
            # By which it is judged later: what people decide on says nothing about the model.
            made |= {"positive": champion.spec.positive, "own_threshold": own_threshold(champion.pipeline, champion.spec.positive)}
    if contract.explain is not None:
        made["explain"] = {"top": contract.explain.top, "seconds": contract.explain.seconds}
    if contract.abstain is not None:
        made["abstain"] = contract.abstain
    if candidate is not None:
        made |= {"candidate": f"models.{candidate.name}@{candidate.version}", "candidate_digest": candidate.spec.digest}
        made |= {"share": traffic.share, "shadow": traffic.shadow}
    return made


class _Batch:
    """The rows of one batch in a session, each with the version that answers for it."""

    def __init__(
        self, lake: Lake, session: Session, rows: ModelRows, stamp: Stamp, *, contract: ModelContract, traffic: Traffic, now: datetime
    ) -> None:
        self._contract = contract
        self._lake, self._con, self._rows = lake, session.con, rows
        self._stamp, self._traffic, self._now = stamp, traffic, now
        self._took_s: dict[str, float] = {}
        select = rows.query.run(self._con)
        self._con.execute(
            f"CREATE OR REPLACE TEMP TABLE __rows AS SELECT *, {assigned_sql(traffic, rows.key)} AS {_VERSION} FROM ({select})"
        )

    def divided(self, champion: LoadedModel, candidate: LoadedModel | None) -> str:
        """The SELECT of the predictions, each by the version that answers for the row; how they went is recorded."""
        if candidate is None or not self._traffic.is_divided:
            return self._ordered([self._answered(champion, "true")])
        its_own = f"{_VERSION} = {quote_literal(candidate.version)}"
        answered, said = self._try(candidate, its_own)
        parts = [said] if said is not None else []
        # Where the candidate can't answer, nobody is left without an answer.
        parts.append(self._answered(champion, f"NOT ({its_own})" if said is not None else "true", answered))
        return self._ordered(parts)

    def shadowed(self, champion: LoadedModel, candidate: LoadedModel) -> str:
        """The SELECT of the champion's predictions; the candidate's of the same rows are written to a table of their own."""
        answered, said = self._try(candidate, "true")
        if said is not None:
            table = self._stamp.asset.replace("_predictions", "_shadow_predictions")
            source = {"model": f"models.{candidate.name}@{candidate.version}", "model_digest": candidate.spec.digest}
            self._lake.overwrite(self._con, table, self._ordered([said]), stamp=replace(self._stamp, asset=table, source=source))
        return self._ordered([self._answered(champion, "true", answered)])

    def _answered(self, champion: LoadedModel, which: str, *others: Answers) -> str:
        """What the champion says; how it went is recorded, also where it fails and with it the batch: a rollout takes it back for that."""
        answers = Answers(champion.name, champion.version, self._count(which), 0, self._now, self._now)
        try:
            rows = self._said(champion, which)
        except _FAILS:
            record_answers(self._lake, [*others, replace(answers, errors=answers.requests)], run=self._stamp.run)
            raise
        self._record(*others, replace(answers, latency_ms=self._latency_ms(champion, answers.requests)))
        return rows

    def _try(self, model: LoadedModel, which: str) -> tuple[Answers, str | None]:
        rows = self._count(which)
        answers = Answers(model.name, model.version, rows, 0, self._now, self._now)
        try:
            said = self._said(model, which)
        except _FAILS:
            return replace(answers, errors=rows), None
        return replace(answers, latency_ms=self._latency_ms(model, rows)), said

    def _latency_ms(self, model: LoadedModel, rows: int) -> float | None:
        return self._took_s[model.version] * 1000 / rows if rows else None

    def _said(self, model: LoadedModel, which: str) -> str:
        """Score rows; the SELECT of their predictions."""
        rows, scores = f"__rows_{model.version}", f"__scores_{model.version}"
        # By the key: which rows the reasons are held against must not depend on the order in which threads brought them.
        by = ", ".join(quote_identifier(column) for column in self._rows.key)
        self._con.execute(
            f"CREATE OR REPLACE TEMP TABLE {rows} AS SELECT row_number() OVER (ORDER BY {by}) - 1 AS {NUMBER}, * EXCLUDE ({_VERSION}) FROM __rows WHERE {which}"
        )
        began = time.perf_counter()
        columns = score(self._con, rows, model, into=scores)
        self._took_s[model.version] = time.perf_counter() - began
        listed = [f"{rows}.{quote_identifier(column)}" for column in self._kept]
        listed += [f"{scores}.{quote_identifier(column)}" for column in columns]
        origin = {
            "model_name": quote_literal(model.name),
            "model_version": quote_literal(model.version),
            "feature_versions": quote_literal(json.dumps(dict(self._stamp.inputs), sort_keys=True)),
            "predicted_at": f"CAST({quote_literal(self._now)} AS TIMESTAMPTZ)",
        }
        listed += [f"{value} AS {name}" for name, value in origin.items()]
        joined = self._explained(model, rows, listed)
        return f"SELECT {', '.join(listed)} FROM {rows} JOIN {scores} USING ({NUMBER}){joined}"

    def _explained(self, model: LoadedModel, rows: str, listed: list[str]) -> str:
        """Add to the columns whether the model abstains, and why it says what it says; the join that the latter takes."""
        contract = self._contract
        if contract.abstain is not None:
            listed.append(f"confidence < {float(contract.abstain)!r}::DOUBLE AS abstained")
        if contract.explain is None:
            return ""
        reasons = f"__reasons_{model.version}"
        explain_rows(self._con, rows, model, into=reasons, top=contract.explain.top, seconds=contract.explain.seconds, seed=contract.seed)
        listed += [f"{reasons}.{column}" for column in (REASONS, REASONS_UNIT, REASONS_METHOD)]
        return f" LEFT JOIN {reasons} USING ({NUMBER})"

    @property
    def _kept(self) -> Iterator[str]:
        times = [self._rows.event_timestamp] if self._rows.event_timestamp else []
        yield from dict.fromkeys([*self._rows.key, *times])

    def _ordered(self, parts: list[str]) -> str:
        keys = ", ".join(quote_identifier(column) for column in self._rows.key)
        # Versions may know different classes, and then have different columns.
        return f"SELECT * FROM ({' UNION ALL BY NAME '.join(parts)}) ORDER BY {keys}"

    def _count(self, which: str) -> int:
        found = self._con.execute(f"SELECT count(*) FROM __rows WHERE {which}").fetchone()
        return int(found[0]) if found else 0

    def _record(self, *answers: Answers) -> None:
        version = self._lake.version(self._stamp.asset)
        once = Transaction(f"batch.{self._traffic.model}", 0 if version is None else version + 1)
        record_answers(self._lake, answers, run=self._stamp.run, once=once)
