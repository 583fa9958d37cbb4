#pragma once

#include <string>

#include "../report.hpp"

namespace compare {

/// The forms of one report. All show the same rows in the same order; names may be any bytes: what is not UTF-8, and in
/// the table what is not printable, becomes U+FFFD. README.md describes the columns.

/// For the terminal: the context, then speed by shape and tokens, balance by input (means over the layers of one),
/// quality, of a longer collapse some of its steps, the first and the last among them, and where trained strategies
/// ended; the steps of trainings are in the other forms alone. Of costs: what they mean, the sizes of all models, and
/// in bfloat16 what a token costs in whole models, for at most three numbers of tokens. Figures have three significant
/// digits; `-` stands for one that is not finite.
std::string table(const Report& report);

/// All of it: an array of flat objects for each of context, speed, balance, quality, collapse, trained,
/// training, cost_machine, cost_models and cost. Figures read back to the same bits; those that are not finite are
/// `null`.
std::string to_json(const Report& report);

/// All of it in one table (RFC 4180, lines end in \n): the first column, `section`, says which part a row belongs to,
/// the others are the members of the JSON's objects; those of other sections are empty, as are figures that are not
/// finite. A list (`load`) is one cell, its numbers separated by spaces.
std::string to_csv(const Report& report);

/// One page for a browser, which needs nothing else: it holds the JSON, its plots are drawn from that by its script. It
/// shows costs where the report has some, else strategies.
std::string to_html(const Report& report);

}  // namespace compare
