#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

/// What a browser made of a page, as its --dump-dom prints it: regular enough to be read without a parser of HTML.
namespace dumped {

/// The piece of `text` from `from`, which must be in it once, to the next `to`; what is not there throws.
std::string between(std::string_view text, std::string_view from, std::string_view to);

/// All pieces of `text` from `from` to the next `to`, without either.
std::vector<std::string> all_between(std::string_view text, std::string_view from, std::string_view to);

/// Elements of the class `name`.
std::size_t count_class(std::string_view text, std::string_view name);

/// `text` without tags, with &amp; &lt; &gt; &quot; &nbsp; resolved.
std::string plain(std::string_view text);

struct Cell {
    std::string value;  ///< of data-value
    std::string shown;
};

using Row = std::map<std::string, Cell>;  ///< by the data-key of the heading

/// The rows of the table with this id.
std::vector<Row> table(std::string_view page, const std::string& id);

}  // namespace dumped
