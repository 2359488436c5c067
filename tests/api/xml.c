#include "xml.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define DEEPEST 32
#define SPACE " \t\r\n"

struct name {
	const char *start;
	size_t length;
};

struct parser {
	const char *at;
	struct name open[DEEPEST];
	size_t depth;
	const char *problem;
};

static void skip_space(struct parser *parser) {
	parser->at += strspn(parser->at, SPACE);
}

static bool complain(struct parser *parser, const char *problem) {
	parser->problem = problem;
	return false;
}

static bool parse_name(struct parser *parser, struct name *name) {
	name->start = parser->at;
	if (!isalpha((unsigned char)*parser->at) && *parser->at != '_')
		return complain(parser, "a name is missing");
	while (isalnum((unsigned char)*parser->at) || (*parser->at && strchr("_-.:", *parser->at)))
		parser->at++;
	name->length = (size_t)(parser->at - name->start);
	return true;
}

static bool parse_attribute(struct parser *parser) {
	struct name name;

	if (!parse_name(parser, &name))
		return false;
	if (*parser->at++ != '=')
		return complain(parser, "an attribute has no '='");
	char quote = *parser->at++;
	if (quote != '"' && quote != '\'')
		return complain(parser, "an attribute has no quotes");
	while (*parser->at != quote) {
		if (*parser->at == '\0' || *parser->at == '<')
			return complain(parser, "an attribute does not end");
		parser->at++;
	}
	parser->at++;
	return true;
}

static bool parse_end_tag(struct parser *parser) {
	struct name name;

	if (!parse_name(parser, &name))
		return false;
	if (parser->depth == 0)
		return complain(parser, "an end tag without a start tag");
	struct name *open = &parser->open[--parser->depth];
	if (open->length != name.length || memcmp(open->start, name.start, name.length) != 0)
		return complain(parser, "an end tag of another name");
	skip_space(parser);
	if (*parser->at++ != '>')
		return complain(parser, "an end tag does not end");
	return true;
}

static bool parse_start_tag(struct parser *parser) {
	if (parser->depth == DEEPEST)
		return complain(parser, "too deep");
	if (!parse_name(parser, &parser->open[parser->depth]))
		return false;
	for (;;) {
		size_t space = strspn(parser->at, SPACE);
		parser->at += space;
		if (*parser->at == '>') {
			parser->at++;
			parser->depth++;
			return true;
		}
		if (parser->at[0] == '/' && parser->at[1] == '>') {
			parser->at += 2;
			return true;
		}
		if (space == 0)
			return complain(parser, "a tag does not end");
		if (!parse_attribute(parser))
			return false;
	}
}

static bool parse_document(struct parser *parser) {
	size_t roots = 0;

	for (;;) {
		const char *text = parser->at;

		parser->at += strcspn(parser->at, "<>&");
		if (parser->depth == 0 && strspn(text, SPACE) < (size_t)(parser->at - text))
			return complain(parser, "text outside the root");
		if (*parser->at == '\0')
			break;
		if (*parser->at++ != '<')
			return complain(parser, "a stray '>' or '&'");
		bool ends = *parser->at == '/';
		if (ends)
			parser->at++;
		else if (parser->depth == 0 && roots++)
			return complain(parser, "a second root");
		if (!(ends ? parse_end_tag(parser) : parse_start_tag(parser)))
			return false;
	}
	if (parser->depth > 0)
		return complain(parser, "a tag is still open at the end");
	return roots == 1 || complain(parser, "no root");
}

bool xml_is_well_formed(const char *text, char *problem, size_t capacity) {
	struct parser parser = { .at = text };

	if (parse_document(&parser))
		return true;
	snprintf(problem, capacity, "%s at byte %td", parser.problem, parser.at - text);
	return false;
}
