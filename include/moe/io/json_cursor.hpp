#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "../core/error.hpp"
#include "text.hpp"

namespace moe::inline MOE_ABI::detail {

/// Walks over JSON text (RFC 8259) front to back and hands out one value at a time, so that a reader whose structure is
/// known builds only that: nothing is kept, nothing is allocated but the strings asked for, and nesting is as deep as
/// the reader's own calls. Assumes valid UTF-8.
///
/// Every error names `context`, which must outlive the cursor, and the byte of the text.
class JsonCursor {
public:
    enum class Kind { object, array, string, number, literal };

    /// Values skipped unread may nest this deep.
    static constexpr unsigned max_depth = 32;

    JsonCursor(std::string_view text, std::string_view context) noexcept : text_(text), context_(context) {}

    /// What the next value is. Throws Error(syntax) if no value begins here.
    [[nodiscard]] Kind kind() {
        const char c = peek();
        switch (c) {
            case '{': return Kind::object;
            case '[': return Kind::array;
            case '"': return Kind::string;
            case 't':
            case 'f':
            case 'n': return Kind::literal;
            default: break;
        }
        if (c != '-' && !is_digit(c)) {
            fail_syntax("a value must begin");
        }
        return Kind::number;
    }

    [[nodiscard]] static constexpr std::string_view kind_name(Kind kind) noexcept {
        switch (kind) {
            case Kind::object: return "an object";
            case Kind::array: return "an array";
            case Kind::string: return "a string";
            case Kind::number: return "a number";
            case Kind::literal: break;
        }
        return "true, false or null";
    }

    /// Reads an object; `on_member(std::string key)` must read the value.
    template <class OnMember>
    void object(OnMember&& on_member) {
        expect('{');
        if (accept('}')) {
            return;
        }
        do {
            std::string key = string();
            expect(':');
            on_member(std::move(key));
        } while (accept(','));
        expect('}');
    }

    /// Reads an array; `on_element()` must read the element.
    template <class OnElement>
    void array(OnElement&& on_element) {
        expect('[');
        if (accept(']')) {
            return;
        }
        do {
            on_element();
        } while (accept(','));
        expect(']');
    }

    /// Reads a string and resolves its escapes.
    [[nodiscard]] std::string string() {
        expect('"');
        std::string result;
        for (;;) {
            const std::size_t begin = at_;
            while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
                   static_cast<unsigned char>(text_[at_]) >= 0x20U) {
                ++at_;
            }
            result.append(text_.substr(begin, at_ - begin));
            if (at_ == text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20U) {
                fail_syntax("a string must go on or end");
            }
            if (text_[at_++] == '"') {
                return result;
            }
            append_escape(result);
        }
    }

    /// Reads a number and returns it as it is written.
    [[nodiscard]] std::string_view number() {
        (void)peek();
        const std::size_t begin = at_;
        (void)accept_here('-');
        if (!accept_here('0')) {
            digits();
        }
        if (accept_here('.')) {
            digits();
        }
        if (accept_here('e') || accept_here('E')) {
            if (!accept_here('+')) {
                (void)accept_here('-');
            }
            digits();
        }
        return text_.substr(begin, at_ - begin);
    }

    /// Reads and checks a value of any kind, and forgets it. Throws Error(header) where it nests deeper than max_depth.
    void skip(unsigned depth = 0) {
        require(depth < max_depth, ErrorCode::header, context_, ": values nest deeper than ", max_depth,
                " levels at byte ", at_, " of the header");
        switch (kind()) {
            case Kind::object: object([this, depth](const std::string& /*key*/) { skip(depth + 1); }); break;
            case Kind::array: array([this, depth] { skip(depth + 1); }); break;
            case Kind::string: (void)string(); break;
            case Kind::number: (void)number(); break;
            case Kind::literal: literal(); break;
        }
    }

    /// Throws Error(syntax) unless only white space is left.
    void end() {
        (void)peek();
        if (at_ != text_.size()) {
            fail_syntax("the text must end");
        }
    }

private:
    [[nodiscard]] static constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

    [[noreturn]] void fail_syntax(std::string_view expected) const {
        if (at_ >= text_.size()) {
            fail(ErrorCode::syntax, context_, ": not JSON: the header ends at byte ", at_, " where ", expected);
        }
        fail(ErrorCode::syntax, context_, ": not JSON: ", in_quotes(text_.substr(at_, 1)), " at byte ", at_,
             " of the header, where ", expected);
    }

    /// The next byte that is not white space, or a zero byte (which no JSON token begins with) at the end.
    [[nodiscard]] char peek() noexcept {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
            ++at_;
        }
        return at_ < text_.size() ? text_[at_] : '\0';
    }

    [[nodiscard]] bool accept_here(char c) noexcept {
        const bool found = at_ < text_.size() && text_[at_] == c;
        at_ += found ? 1 : 0;
        return found;
    }

    [[nodiscard]] bool accept(char c) noexcept {
        (void)peek();
        return accept_here(c);
    }

    void expect(char c) {
        if (!accept(c)) {
            fail_syntax(in_quotes(std::string_view(&c, 1)) + " must stand");
        }
    }

    void digits() {
        if (at_ == text_.size() || !is_digit(text_[at_])) {
            fail_syntax("a digit must stand");
        }
        while (at_ < text_.size() && is_digit(text_[at_])) {
            ++at_;
        }
    }

    void literal() {
        for (const std::string_view word :
             {std::string_view("true"), std::string_view("false"), std::string_view("null")}) {
            if (text_.substr(at_, word.size()) == word) {
                at_ += word.size();
                return;
            }
        }
        fail_syntax("true, false or null must stand");
    }

    void append_escape(std::string& result) {
        constexpr std::string_view written = "\"\\/bfnrt";
        constexpr std::string_view meant = "\"\\/\b\f\n\r\t";
        if (accept_here('u')) {
            append_utf8(result, escaped_code_point());
            return;
        }
        const std::size_t which = at_ < text_.size() ? written.find(text_[at_]) : std::string_view::npos;
        if (which == std::string_view::npos) {
            fail_syntax("an escape must be one of \"\\/bfnrtu");
        }
        result += meant[which];
        ++at_;
    }

    /// After "\u": one code unit, or the two of a surrogate pair.
    [[nodiscard]] unsigned escaped_code_point() {
        const unsigned unit = four_hex_digits();
        if (unit < 0xD800U || unit > 0xDFFFU) {
            return unit;
        }
        if (unit > 0xDBFFU || !accept_here('\\') || !accept_here('u')) {
            fail_syntax("a surrogate must have its other half");
        }
        const unsigned low = four_hex_digits();
        if (low < 0xDC00U || low > 0xDFFFU) {
            fail_syntax("a surrogate must have its other half");
        }
        return 0x10000U + ((unit - 0xD800U) << 10U) + (low - 0xDC00U);
    }

    [[nodiscard]] unsigned four_hex_digits() {
        const std::string_view hex = text_.substr(at_, 4);
        unsigned value = 0;
        const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
        if (hex.size() != 4 || error != std::errc{} || end != hex.data() + hex.size()) {
            fail_syntax("four hexadecimal digits must stand");
        }
        at_ += 4;
        return value;
    }

    std::string_view text_;
    std::string_view context_;
    std::size_t at_ = 0;
};

}  // namespace moe::inline MOE_ABI::detail
