"""What the station says of the form in the start panel: the plan, a dry run, limits, the recipe."""

from __future__ import annotations

import time

from PyQt6.QtWidgets import QWidget

from operando.gui.link import StationLink
from operando.gui.models.form import Check, StartForm
from operando.gui.models.outlook import outlook
from operando.gui.theme import Theme
from operando.gui.widgets.dry_run_view import DryRunView
from operando.gui.widgets.form_fields import Section
from operando.gui.widgets.plan_view import PlanView, RecipeView, SheetView, sheet_summary, text


class StartResults:
    """Three sections of the panel. plan_part, sheet_part, recipe_part: where they stand in it."""

    def __init__(self, link: StationLink, theme: Theme) -> None:
        self.plan_part = Section("What will happen", theme)
        self._plan = PlanView()
        self._no_plan = text("It is shown here when the form has no problems.", "muted")
        self._dry_run = DryRunView(link, theme)
        for part in (self._plan, self._no_plan, self._dry_run):
            self.plan_part.body.addWidget(part)
        self.sheet_part = Section("Limit sheet", theme, name="limit-sheet", folds=True)
        self._sheet = SheetView()
        self.sheet_part.body.addWidget(self._sheet)
        self.recipe_part = Section("As recipe file", theme, name="as-recipe", folds=True)
        self.recipe = RecipeView()
        self.recipe_part.body.addWidget(self.recipe)

    def show_form(self, form: StartForm, speed: float | None) -> None:
        """Show what was found for a form. speed: laboratory seconds a wall second."""
        good = form.outcome
        self._plan.setVisible(good is not None)
        self._no_plan.setVisible(good is None)
        if good is not None:
            self._plan.show_plan(good.plan)
            self._sheet.show_sheet(good.sheet)
            self.sheet_part.summarise(*sheet_summary(good.sheet))
        self.sheet_part.setVisible(good is not None)
        self.recipe_part.setVisible(good is not None)
        self.recipe.show_recipe(good.recipe if good is not None else "")
        self.show_outlook(form, speed)

    def show_outlook(self, form: StartForm, speed: float | None) -> None:
        """Say how long and until when, from now."""
        if form.outcome is not None:
            self._plan.show_outlook(outlook(form.outcome, speed, time.time()))

    def offer_dry_run(self, form: StartForm, speed: float | None) -> None:
        """Let what stands in a form be predicted, if the station would start it."""
        check = Check(form.revision, form.channel, form.request()) if form.can_start else None
        self._dry_run.offer(check, speed or 1.0)

    def plan_stops(self) -> list[QWidget]:
        """What can be reached by keyboard in the first section."""
        return [self._dry_run.button]

    def recipe_stops(self) -> list[QWidget]:
        """The same in the last one."""
        return self.recipe_part.tab_stops() + self.recipe.tab_stops()

    def set_theme(self, theme: Theme) -> None:
        """Show in another appearance."""
        self._dry_run.set_theme(theme)
