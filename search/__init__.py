"""Decides, runs, records and presents. Knows designs and evaluations; sees models only through evaluators.base."""

from search.guard import check_folders

check_folders()
