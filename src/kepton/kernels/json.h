// A reader of JSON that trusts no byte of it.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace kepton {

struct Json {
  enum Kind { NOTHING, NUMBER, TEXT, LIST, OBJECT } kind = NOTHING;  // true, false, null: NOTHING
  double number = 0;
  std::string text;
  std::vector<Json> items;         // of a list, and of an object in the order of its names
  std::vector<std::string> names;  // of an object

  const Json* find(const std::string& name) const {
    for (size_t i = 0; i < names.size(); i++)
      if (names[i] == name) return &items[i];
    return nullptr;
  }
  const Json& at(const std::string& name) const {
    if (const Json* found = find(name)) return *found;
    throw std::runtime_error("it has no " + name);
  }
  const std::string& string() const {
    if (kind != TEXT) throw std::runtime_error("a text was expected in its header");
    return text;
  }
  // A whole number from 0 to 2^53
  long count() const {
    if (kind != NUMBER || !(number >= 0 && number <= 9007199254740992.0) || number != long(number))
      throw std::runtime_error("a count was expected in its header");
    return long(number);
  }
};

class JsonReader {
 public:
  static Json read(const std::string& text) {
    JsonReader reader(text);
    Json value = reader.value(0);
    if (reader.next()) reader.fail();
    return value;
  }

 private:
  static constexpr int DEPTH = 32;

  explicit JsonReader(const std::string& text) : text(text) {}

  [[noreturn]] static void fail() { throw std::runtime_error("its header is no JSON"); }

  // The next character that is no space, 0 at the end
  char next() {
    while (place < text.size() && std::string(" \t\n\r").find(text[place]) != std::string::npos)
      place++;
    return place < text.size() ? text[place] : 0;
  }

  bool took(char wanted) {
    if (next() != wanted) return false;
    place++;
    return true;
  }

  void take(char wanted) {
    if (!took(wanted)) fail();
  }

  Json value(int depth) {
    if (depth > DEPTH) fail();
    Json found;
    const char first = next();
    if (first == '"') {
      found.kind = Json::TEXT;
      found.text = quoted();
    } else if (first == '{') {
      found.kind = Json::OBJECT;
      place++;
      if (took('}')) return found;
      do {
        found.names.push_back(quoted());
        take(':');
        found.items.push_back(value(depth + 1));
      } while (took(','));
      take('}');
    } else if (first == '[') {
      found.kind = Json::LIST;
      place++;
      if (took(']')) return found;
      do found.items.push_back(value(depth + 1));
      while (took(','));
      take(']');
    } else {
      const size_t end = text.find_first_of(" \t\n\r,:]}", place);
      const std::string word = text.substr(place, end == std::string::npos ? end : end - place);
      place += word.size();
      if (word == "true" || word == "false" || word == "null") return found;
      char* last = nullptr;
      found.kind = Json::NUMBER;
      found.number = std::strtod(word.c_str(), &last);
      if (word.empty() || last != word.c_str() + word.size()) fail();
    }
    return found;
  }

  // A text, '?' in place of what is written by its number and is no ASCII
  std::string quoted() {
    take('"');
    std::string found;
    while (place < text.size() && text[place] != '"') {
      char c = text[place++];
      if (c == '\\') {
        if (place >= text.size()) fail();
        c = text[place++];
        if (c == 'u') {
          if (place + 4 > text.size()) fail();
          const std::string digits = text.substr(place, 4);
          if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) fail();
          const long code = std::strtol(digits.c_str(), nullptr, 16);
          place += 4;
          c = code < 128 ? char(code) : '?';
        } else {
          const size_t which = std::string("bfnrt").find(c);
          if (which != std::string::npos) c = "\b\f\n\r\t"[which];
        }
      }
      found += c;
    }
    if (place >= text.size()) fail();
    place++;
    return found;
  }

  const std::string& text;
  size_t place = 0;
};

}  // namespace kepton
